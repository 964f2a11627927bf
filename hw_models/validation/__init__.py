"""The model against published figures: one module a comparison, all of them in `comparisons`, shown by `document`."""
