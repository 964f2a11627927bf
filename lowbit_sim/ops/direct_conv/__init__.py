"""Convolutions of proven codes without matrices: a library's int8 convolution, and windows that stay in the cache.

`sums.py` computes the three GEMMs of a convolution whose sums fit 32 bits in any order. Its slow twin, and the
definition, is `ConvContraction.matrices` with `arith.gemm`.
"""
