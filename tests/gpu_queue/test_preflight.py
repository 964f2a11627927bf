import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import preflight as module
from benchmarks.gpu.preflight import preflight
from benchmarks.gpu.task import ALWAYS


def test_what_does_not_import_is_named(monkeypatch):
    monkeypatch.setattr(module, "ALWAYS", ("torch", "no_such_module"))
    why = preflight()
    assert why == "no_such_module does not work here: ModuleNotFoundError: No module named 'no_such_module'"


def test_what_is_installed_and_does_not_work_is_named(monkeypatch, capsys):
    def fails():
        raise RuntimeError("no LLVM")

    monkeypatch.setattr(module, "_TRIALS", {"absent_module": pytest.fail, "numba": fails})
    assert preflight() == "numba does not work here: RuntimeError: no LLVM"
    told = capsys.readouterr().out
    assert "preflight: absent_module is not installed" in told
    assert f"preflight: torch {torch.__version__} works" in told


def test_what_is_here_works(monkeypatch):
    trials = {name: module._TRIALS[name] for name in ("numba", "pydantic")}
    monkeypatch.setattr(module, "_TRIALS", trials)
    assert preflight() is None
    assert "torch" in ALWAYS


def test_the_command_tries_and_says_why_not(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command, "preflight", lambda: "numba does not work here")
    assert command.main(["--preflight"]) == 1
    assert capsys.readouterr().err == "numba does not work here\n"
    monkeypatch.setattr(command, "preflight", lambda: None)
    assert command.main(["--preflight"]) == 0


@pytest.mark.parametrize(("script", "why"), [("pass", None), ("raise SystemExit(1)", "failed, see above")])
def test_it_runs_in_a_process_of_its_own(script, why, tmp_path, monkeypatch):
    import sys

    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(python))
    found = module.start_preflight()
    assert found is None if why is None else why in str(found)
