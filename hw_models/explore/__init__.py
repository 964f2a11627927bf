"""Asking a machine's model many questions: changed keys, sweeps over them, and the roofline."""
