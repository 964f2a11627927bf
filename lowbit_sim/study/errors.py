"""What a user can get wrong in a study: one exception, whose message is all that the user needs to read."""

from __future__ import annotations


class StudyError(ValueError):
    """A study, its data or its model can't be what was asked for; the message says where and what would do."""
