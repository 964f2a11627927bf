"""Layer 4: numerics as the tables of TOML files, which studies and machines' profiles share."""
