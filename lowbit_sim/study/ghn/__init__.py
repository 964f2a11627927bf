"""Studies of graph hypernetworks: one TOML file, run in resumable pieces, with its record, tables and prices."""
