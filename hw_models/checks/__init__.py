"""What is inconsistent in a machine although each of its keys is valid, one module a subject; see `check`."""
