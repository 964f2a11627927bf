"""Layer 4: emulated modules, and the conversion of a user's model by rules."""
