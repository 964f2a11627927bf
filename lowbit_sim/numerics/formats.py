"""Number formats: finite sets of values and their codes, as data.

A format is one instance of a dataclass with its free parameters; all else is derived. How a value is rounded
into a format is `rounding.py`, the definition of that rounding `reference.py`, its names `catalog.py`.

Every format has `bits`, `name`, `max_value` and `unit`: the largest power of two of which every finite value
is a whole number of at most 65535, or None where there is none. What has a unit can enter an integer
multiplier.
"""

from __future__ import annotations

from lowbit_sim.numerics.block_formats import BlockFormat as BlockFormat
from lowbit_sim.numerics.float_formats import ExponentFormat as ExponentFormat
from lowbit_sim.numerics.float_formats import FloatFormat as FloatFormat
from lowbit_sim.numerics.integer_formats import FixedFormat as FixedFormat
from lowbit_sim.numerics.integer_formats import IntFormat as IntFormat
from lowbit_sim.numerics.table_formats import CodebookFormat as CodebookFormat
from lowbit_sim.numerics.table_formats import LogFormat as LogFormat
from lowbit_sim.numerics.table_formats import PositFormat as PositFormat

#: Formats whose values are found in a table.
TableFormat = LogFormat | PositFormat | CodebookFormat | ExponentFormat

#: Formats of a single number.
ElementFormat = IntFormat | FixedFormat | FloatFormat | TableFormat

Format = ElementFormat | BlockFormat
