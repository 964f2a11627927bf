"""`lowbit-sim calibrate`: a profile of the present device from measured GEMMs, and how well it predicts others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lowbit_sim.cli.app import JsonFile, output

if TYPE_CHECKING:
    from hw_models.calibration.calibrate import Calibration

EXAMPLE = "lowbit-sim calibrate --device cuda --out measured_h200.toml --json calibration.json"


def calibrate(
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="What is measured.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Where the profile is written; by default nowhere."),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Fit a machine profile to a handful of GEMMs and a copy on this device, and predict other GEMMs with it.

    The profile can price a study (`profiles = ["measured.toml"]`); energies are in it where the device has a counter.
    """
    from hw_models.calibration.calibrate import calibrate as measure
    from lowbit_sim.study.environment import hardware_name
    from lowbit_sim.study.errors import StudyError
    from lowbit_sim.study.records import require_writable, write_json, write_text
    from lowbit_sim.training.device import DeviceError, find_device
    from lowbit_sim.training.energy import energy_meter

    try:
        where = find_device(device)
    except DeviceError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from None
    for file in (out, json):
        if file is not None:
            require_writable(file)
    meter = energy_meter(where)
    try:
        found = measure(where, hardware_name(where), read_energy=meter.read_j)
    except ValueError as error:
        raise StudyError(f"can't calibrate {device}: {error}") from error
    console = output()
    console.print(calibration_table(found))
    console.print(f"Energy {meter.how}.", markup=False, highlight=False, soft_wrap=True)
    if found.measurement.int8_left_out is not None:
        console.print(
            f"INT8 was left out: {found.measurement.int8_left_out}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if out is not None:
        write_text(out, found.profile)
        console.print(f"Wrote {out}. See: lowbit-sim profiles show {out}", markup=False, highlight=False)
    if json is not None:
        write_json(json, {**found.to_dict(), "energy": meter.how})


def calibration_table(found: Calibration) -> Table:
    """Every GEMM's predicted time beside the measured one."""
    from lowbit_sim.study.quantities import with_prefix

    table = Table(title=f"{found.device.name}: {found.device.measured_with}", header_style="bold")
    for heading in ("mode", "M", "N", "K", "measured", "predicted", "error", ""):
        table.add_column(heading, justify="left" if heading in ("mode", "") else "right")
    for each in found.predictions:
        sizes = [f"{size:,}" for size in each.gemm.shape]
        times = [with_prefix(seconds, "s") for seconds in (each.gemm.seconds, each.predicted_s)]
        kind = "" if each.held_out else "fitted"
        table.add_row(each.gemm.mode, *sizes, *times, f"{100 * each.error:+.0f} %", kind)
    modes = dict.fromkeys(each.gemm.mode for each in found.predictions)
    off = ", ".join(f"{mode} {found.typical_factor(mode):.2f}" for mode in modes)
    copied = with_prefix(found.copy_bytes_per_second, "B/s")
    table.caption = (
        f"Typically off by a factor of: {off} (GEMMs not fitted to). Copy: {copied}, read and written."
    )
    return table
