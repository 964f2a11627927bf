"""What is raised where a number is needed and there is none."""

from __future__ import annotations


class NotANumberError(ValueError):
    """A tensor to be quantised holds NaN."""
