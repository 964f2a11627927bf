"""Which commit the code that ran is, where it runs from a git checkout."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: A repository that answers slower than this is treated as none: a record is not worth a hanging study.
TIMEOUT_SECONDS = 10


def checkout_state(module: Path, packages: Sequence[Path]) -> dict[str, Any]:
    """The commit of a checkout, and whether the packages in it differ from that commit.

    Both are None outside a checkout, without git, and where git does not track the module: a package that is
    installed inside another project is not part of that project's commit.

    Args:
        module: A file of the code.
        packages: Folders of the code; changes elsewhere in the checkout do not count.
    """
    tracked = _git(module.parent, "ls-files", "--error-unmatch", str(module))
    commit = _git(module.parent, "rev-parse", "HEAD") if tracked is not None else None
    changes = _git(module.parent, "status", "--porcelain", "--", *map(str, packages)) if commit else None
    return {
        "commit": commit.strip() if commit else None,
        "uncommitted_changes": None if changes is None else bool(changes),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """Git's output, or None where it has none to give."""
    # Git's own variables (a hook sets GIT_DIR) may point at another repository than the folder's; and a question
    # must not take the lock that another git command may be waiting for.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment = {**inherited, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
