"""Training: the loop, the seam for training algorithms (`recipe`), and the workload of a step."""
