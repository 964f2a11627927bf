"""Bit-accurate emulation of low-precision training hardware.

The public names are listed in `__init__.pyi`. Each is imported at its first use: importing the package takes
milliseconds, compiles nothing, probes no device and imports no optional library. numba is imported when the
first kernel runs.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
