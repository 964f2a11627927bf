"""Trains a held-out network at low precision from a start: weights that a hypernetwork predicted, or random ones."""

from __future__ import annotations

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.config.numerics import layer_spec
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.ghn.network import GraphNetwork
from lowbit_sim.ghn.precision import parse_precision, rules
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.rules import Rule
from lowbit_sim.study.data import Dataset
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.config import FineTuningTable
from lowbit_sim.study.ghn.results import FineTuning
from lowbit_sim.study.recipes import RecipeContext
from lowbit_sim.training.loop import train
from lowbit_sim.training.recipe import Recipe, compose
from lowbit_sim.training.settings import TrainingSettings


def fine_tuned(
    table: FineTuningTable,
    network: GraphNetwork,
    data: Dataset,
    *,
    number: int,
    learning_rate: float,
    seed: int,
    mac: MacUnit,
) -> FineTuning:
    """Train a network at the table's precision, in place; every start sees the same images in the same order.

    Args:
        table: Precision and hyperparameters.
        network: The start, native.
        data: The images.
        number: The network's number in its split.
        learning_rate: The schedule's largest value.
        seed: Of the order of images and of random bits.
        mac: The accumulator where the table gives none.
    """
    settings = _settings(table, learning_rate, seed)
    recipes = _recipes(table, settings, len(data.train))
    model = convert(network, _rules(table, network.graph, mac), seed=seed)
    result = train(model, data.train, data.test, settings, recipes=recipes)
    return FineTuning(
        number=number,
        learning_rate=learning_rate,
        status=result.status,
        accuracies=tuple(epoch.test_accuracy for epoch in result.epochs),
    )


def check_fine_tuning(table: FineTuningTable, graph: NetworkGraph, examples: int, mac: MacUnit) -> None:
    """Find out before any training whether a network can be fine-tuned.

    Args:
        table: Precision, hyperparameters and recipes.
        graph: The network's.
        examples: Training images.
        mac: The accumulator where the table gives none.

    Raises:
        StudyError: Recipes that can't act together or on such a network.
    """
    try:
        recipes = compose(_recipes(table, _settings(table, table.learning_rates[0], 0), examples))
        recipes.prepare(convert(GraphNetwork(graph), _rules(table, graph, mac)))
    except ValueError as error:
        raise StudyError(f"fine_tuning: {error}") from error


def _settings(table: FineTuningTable, learning_rate: float, seed: int) -> TrainingSettings:
    return TrainingSettings(
        epochs=table.epochs,
        batch_size=table.batch_size,
        learning_rate=learning_rate,
        momentum=table.momentum,
        weight_decay=table.weight_decay,
        seed=seed,
    )


def _recipes(table: FineTuningTable, settings: TrainingSettings, examples: int) -> dict[str, Recipe]:
    context = RecipeContext(seed=settings.seed, steps=settings.steps(examples), settings=settings)
    return {recipe.name: recipe.build(context) for recipe in table.recipes}


def _rules(table: FineTuningTable, graph: NetworkGraph, mac: MacUnit) -> list[Rule]:
    precision = parse_precision(table.precision, weight_scale=table.weight_scale)
    if table.numerics is None:
        return rules(graph, precision, mac=mac)
    spec = layer_spec(table.numerics)
    return rules(graph, precision, mac=mac if spec.output is None else spec.output.mac, backward=spec)
