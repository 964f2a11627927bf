"""The implementations of the emulated matrix product; `reference` is the definition."""
