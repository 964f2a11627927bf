"""The command line: `lowbit-sim compare`, `report`, `estimate`, `calibrate`, `validate`, `diverge`, `vectors`,
`profiles` and `ghn`, one module each.

Commands import what they need when they run, so that help is instant. A user's error is one message on stderr
and exit code 2; anything unexpected keeps its traceback.
"""

from __future__ import annotations

import os
import sys

from rich.console import Console

from lowbit_sim.cli import calibrate, compare, diverge, estimate, ghn, profiles, report, validate, vectors
from lowbit_sim.cli.app import USER_ERROR, app

app.command(epilog=f"Example: {compare.EXAMPLE}")(compare.compare)
app.command(epilog=f"Example: {report.EXAMPLE}")(report.report)
app.command(epilog=f"Example: {estimate.EXAMPLE}")(estimate.estimate)
app.command(epilog=f"Example: {calibrate.EXAMPLE}")(calibrate.calibrate)
app.command(epilog=f"Example: {validate.EXAMPLE}")(validate.validate)
app.command(epilog=f"Example: {diverge.EXAMPLE}")(diverge.diverge)
app.command(epilog=f"Example: {vectors.EXAMPLE}")(vectors.vectors)
app.add_typer(profiles.profiles_app, name="profiles")
app.add_typer(ghn.ghn_app, name="ghn")


def main() -> None:
    """The entry point of `lowbit-sim`."""
    # torch and numba each bring an OpenMP runtime, whose idle threads spin by default and take the cores from the
    # other's. The setting is read when the runtime is loaded, so it comes before the first import of torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ValueError as error:
        if not _is_users(error):
            raise
        Console(stderr=True, soft_wrap=True, emoji=False).print(
            f"Error: {error}", style="red", markup=False, highlight=False
        )
        sys.exit(USER_ERROR)


def _is_users(error: ValueError) -> bool:
    """Whether an error is about what the user asked for, and its message all that there is to say."""
    import hw_models
    from hw_models.explore.roofline_plot import PlotUnavailableError
    from lowbit_sim.study.errors import StudyError

    return isinstance(
        error, StudyError | PlotUnavailableError | hw_models.ProfileError | hw_models.UnsupportedOperandError
    )
