"""The tables of a machine's profile, one file each; `hw_models.profile` puts them together."""
