import json

import pytest
from typer.testing import CliRunner

import hw_models
from hw_models.calibration import measure as calibration
from hw_models.calibration.measure import Plan
from lowbit_sim.cli import app

PLAN = Plan(fitted=((32, 32, 32), (384, 384, 384)), batch=1, copy_bytes=1 << 20, series_s=1e-3)


def test_a_profile_and_a_record_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "CPU_PLAN", PLAN)
    monkeypatch.setattr(calibration, "_last_cache_bytes", lambda: 1 << 16)
    out, record = tmp_path / "measured.toml", tmp_path / "record.json"
    done = CliRunner().invoke(app, ["calibrate", "--out", str(out), "--json", str(record)])
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "predicted" in text
    assert "fitted" in text
    assert "Typically off by a factor of: fp32" in text
    assert hw_models.load(out).machine.name.startswith("measured_")
    assert json.loads(record.read_text())["energy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--out", "nowhere/x.toml"], "there is no folder nowhere"),
    ],
)
def test_what_can_t_be_is_said_before_anything_is_timed(arguments, message, monkeypatch):
    monkeypatch.setattr(calibration, "timed_gemms", None)
    done = CliRunner().invoke(app, ["calibrate", *arguments])
    assert done.exit_code != 0
    assert message in " ".join(f"{done.output} {done.exception}".split())
