"""Graph hypernetworks: all parameters of a network that was never trained, in one pass, also at low precision.

A hypernetwork reads a network's graph and puts out its weights (GHN-2, Knyazev et al., NeurIPS 2021); one that is
trained with quantised networks puts out weights that survive quantisation (GHN-QAT, arXiv 2309.13773).

    space, architecture    which networks there are
    graph, network         a network as nodes, and running them
    features, gnn, decoder, normalization -> hypernetwork
    precision, fake_quantization, strategies
    meta_step, training    how it learns
    evaluation, cost       what its networks are worth and what they cost
"""

from __future__ import annotations

from lowbit_sim.ghn.architecture import OPERATORS as OPERATORS
from lowbit_sim.ghn.architecture import Architecture as Architecture
from lowbit_sim.ghn.architecture import Cell as Cell
from lowbit_sim.ghn.architecture import Edge as Edge
from lowbit_sim.ghn.cost import trace_meta_step as trace_meta_step
from lowbit_sim.ghn.cost import trace_network as trace_network
from lowbit_sim.ghn.evaluation import accuracy as accuracy
from lowbit_sim.ghn.evaluation import at_precision as at_precision
from lowbit_sim.ghn.graph import NetworkGraph as NetworkGraph
from lowbit_sim.ghn.graph import Node as Node
from lowbit_sim.ghn.graph_builder import build_graph as build_graph
from lowbit_sim.ghn.hypernetwork import GraphHypernetwork as GraphHypernetwork
from lowbit_sim.ghn.hypernetwork import HypernetworkSizes as HypernetworkSizes
from lowbit_sim.ghn.hypernetwork import build_hypernetwork as build_hypernetwork
from lowbit_sim.ghn.network import GraphNetwork as GraphNetwork
from lowbit_sim.ghn.network import he_initialized as he_initialized
from lowbit_sim.ghn.network import with_parameters as with_parameters
from lowbit_sim.ghn.precision import Precision as Precision
from lowbit_sim.ghn.precision import parse_precision as parse_precision
from lowbit_sim.ghn.prediction import predict as predict
from lowbit_sim.ghn.settings import MetaSettings as MetaSettings
from lowbit_sim.ghn.space import DesignSpace as DesignSpace
from lowbit_sim.ghn.space import TrainingSplit as TrainingSplit
from lowbit_sim.ghn.space import draw_architecture as draw_architecture
from lowbit_sim.ghn.space import held_out as held_out
from lowbit_sim.ghn.store import load_hypernetwork as load_hypernetwork
from lowbit_sim.ghn.store import save_hypernetwork as save_hypernetwork
from lowbit_sim.ghn.strategies import Strategy as Strategy
from lowbit_sim.ghn.training import MetaTraining as MetaTraining
from lowbit_sim.ghn.training import train_hypernetwork as train_hypernetwork
