"""A small study for the queue's tests."""

from pathlib import Path

TEXT = """
title = "tiny"
seeds = [0, 1]
profiles = ["tpu_v1"]
[data]
name = "digits"
limit = 64
test_limit = 50
[model]
name = "mlp"
width = 8
[training]
epochs = 2
batch_size = 32
learning_rate = 0.1
[[arms]]
name = "INT8"
format = "int8"
[[arms]]
name = "fp32"
native = true
training = { learning_rate = 0.05 }
[[arms]]
name = "bf16 / native"
native = "bf16"
"""


def study_file(folder: Path) -> Path:
    path = folder / "tiny.toml"
    path.write_text(TEXT)
    return path
