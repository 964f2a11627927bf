"""How a GEMM is cut into tiles over the memories, and what then crosses at each of them."""
