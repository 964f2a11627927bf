"""The compiled search over all candidates: `compiled.compiled_search`. Only `inputs` does without numba."""
