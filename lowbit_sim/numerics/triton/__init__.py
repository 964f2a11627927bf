"""Twins of `kernels.py` and `table_kernel.py` for a GPU: same bits, same Philox counters.

Importing a module of this package imports Triton, so it is imported only where a kernel is about to run.
"""
