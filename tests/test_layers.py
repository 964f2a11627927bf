"""Imports go down only: the architecture is a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: A module's layer is that of the longest prefix listed here. It may import its own layer and lower ones.
LAYERS = {
    "lowbit_sim.trace": 0,
    "lowbit_sim.numerics": 0,
    "lowbit_sim.quant": 1,
    "lowbit_sim.arith": 2,
    "lowbit_sim.ops": 3,
    "lowbit_sim.nn": 4,
    "lowbit_sim": 4,
    "lowbit_sim.config": 4,
    "lowbit_sim.testing": 4,
    "lowbit_sim.training": 5,
    "lowbit_sim.ghn": 5,
    "lowbit_sim.study": 6,
    "lowbit_sim.cli": 7,
    "lowbit_sim.__main__": 7,
}

#: What the cost model may know of the emulator.
HW_MODELS_MAY_IMPORT = (
    "lowbit_sim.numerics",
    "lowbit_sim.quant",
    "lowbit_sim.arith.backends.cuda_products",  # what is timed on a device
    "lowbit_sim.arith.mac",
    "lowbit_sim.arith.float_mac",
    "lowbit_sim.arith.requant",
    "lowbit_sim.arith.spec",
    "lowbit_sim.config",
    "lowbit_sim.trace",
)

SOURCES = sorted(p for package in ("lowbit_sim", "hw_models") for p in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int:
    prefix = max((p for p in LAYERS if module == p or module.startswith(p + ".")), key=len)
    return LAYERS[prefix]


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            # `from package import module` names a module as well as `from module import name`.
            names |= {node.module} | {
                f"{node.module}.{alias.name}"
                for alias in node.names
                if (ROOT / node.module.replace(".", "/") / f"{alias.name}.py").exists()
            }
    return {name for name in names if name.split(".")[0] in ("lowbit_sim", "hw_models")}


def violations(path: Path) -> list[str]:
    importer = module_name(path)
    found = []
    for name in sorted(imports_of(path)):
        if importer.startswith("hw_models"):
            allowed = name.startswith("hw_models") or name.startswith(HW_MODELS_MAY_IMPORT)
        elif name.startswith("hw_models"):
            allowed = layer_of(importer) >= LAYERS["lowbit_sim.study"]
        else:
            allowed = layer_of(name) <= layer_of(importer)
        if not allowed:
            found.append(f"{importer} imports {name}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_go_down_only(path):
    assert violations(path) == []


def test_every_source_is_seen():
    assert len(SOURCES) > 30
    assert {layer_of(module_name(p)) for p in SOURCES if p.is_relative_to(ROOT / "lowbit_sim")} == set(
        range(8)
    )


def test_an_upward_import_is_found(tmp_path, monkeypatch):
    low = tmp_path / "lowbit_sim" / "numerics" / "bad.py"
    low.parent.mkdir(parents=True)
    low.write_text("from lowbit_sim.arith.mac import MacUnit\nimport hw_models\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert violations(low) == [
        "lowbit_sim.numerics.bad imports hw_models",
        "lowbit_sim.numerics.bad imports lowbit_sim.arith.mac",
    ]


def test_importing_the_package_is_quiet():
    """No compiler and no optional library comes with the public names."""
    import subprocess
    import sys

    code = (
        "import sys, hw_models\n"
        "from lowbit_sim import *\n"
        "print([m for m in ('numba', 'triton', 'qtorch', 'sklearn', 'typer', 'plotly', 'torch._dynamo') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    import lowbit_sim

    assert len(lowbit_sim.__all__) > 40
    for name in lowbit_sim.__all__:
        assert getattr(lowbit_sim, name) is not None
    with pytest.raises(AttributeError, match="quantiser"):
        getattr(lowbit_sim, "quantiser")  # noqa: B009
