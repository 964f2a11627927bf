"""Compute cycles of a GEMM on an array and what the array reads and writes: one file a dataflow, in closed form."""
