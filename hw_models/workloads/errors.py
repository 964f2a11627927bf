"""The error of a workload's file."""


class WorkloadError(ValueError):
    """A file that can't be read as a workload; the message names the file and the line or node."""
