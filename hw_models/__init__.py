"""What training costs on a machine: profiles, and the price of a trace in cycles, bytes and energy.

    profile = hw_models.load("tpu_v1")
    report = hw_models.estimate(trace, profile)

A profile also fixes the numerics: `profile.op_spec()`. See `README.md` for how to describe a machine.
"""

from hw_models.compute.systolic import systolic_cycles as systolic_cycles
from hw_models.compute.systolic import systolic_work as systolic_work
from hw_models.compute.work import ArrayWork as ArrayWork
from hw_models.cost import Cost as Cost
from hw_models.estimate import estimate as estimate
from hw_models.load import ProfileError as ProfileError
from hw_models.load import load as load
from hw_models.load import parse as parse
from hw_models.load import profile_names as profile_names
from hw_models.operands import UnsupportedOperandError as UnsupportedOperandError
from hw_models.profile import HardwareProfile as HardwareProfile
from hw_models.ranges import EnergyRange as EnergyRange
from hw_models.report import CostReport as CostReport
from hw_models.template import template as template
