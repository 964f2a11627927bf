"""A profile from measurements: a handful of GEMMs and a copy are timed on a device, the rest is predicted."""
