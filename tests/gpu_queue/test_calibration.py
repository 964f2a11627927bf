import json
import subprocess
import sys

from benchmarks.gpu.task import ROOT


def test_without_pydantic_times_are_measured_and_a_profile_is_fitted():
    code = """
import json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pydantic":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import importlib.util
from benchmarks.gpu import calibration
real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "pydantic" else real(name)
calibration._without_its_imports("hw_models")
from hw_models.calibration import measure
measure.CPU_PLAN = measure.Plan(
    fitted=((32, 32, 32), (384, 384, 384)), batch=1, copy_bytes=1 << 20, series_s=1e-3
)
measure._last_cache_bytes = lambda: 1 << 16
print(json.dumps(calibration.calibrated_profile(0, "cpu")), "pydantic" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    text, _, imported = done.stdout.strip().rpartition(" ")
    record = json.loads(text)
    assert imported == "False"
    assert record["not_predicted"] == "predictions need pydantic, not installed here"
    assert all(row["measured_s"] > 0 for row in record["gemms"])
    assert any(row["held_out"] for row in record["gemms"])
    assert record["profile"].startswith("# ")
