import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lowbit_sim.training.state_file import StateFileError, read_state, write_state

KIND = "test state"

TENSORS = [
    torch.tensor([1.0, -0.0, math.nan, math.inf]),
    torch.tensor(3, dtype=torch.int64),
    torch.zeros(0, 4),
    torch.arange(6, dtype=torch.uint8).reshape(2, 3).t(),
    torch.tensor([True, False]),
    torch.randn(3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16),
    torch.tensor([1e-320], dtype=torch.float64),
]


def same(a: Any, b: Any) -> bool:
    """Equality of types and bits all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def again(folder, state: Any) -> Any:
    write_state(folder / "x.state", state, kind=KIND)
    return read_state(folder / "x.state", kind=KIND)


def test_a_tree_comes_back_bit_for_bit(tmp_path):
    state = {
        "tensors": TENSORS,
        3: (1, 2.5, "a\u00e9", None, True),
        "empty": {},
        "none": [],
        "inf": -math.inf,
    }
    back = again(tmp_path, state)
    assert same(back, state)
    assert not same(back, {**state, 3: (1, 2.5, "b", None, True)})


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(TENSORS)
KEYS = st.text() | st.integers()
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@given(state=TREES)
def test_any_tree_comes_back(tmp_path_factory, state):
    assert same(again(tmp_path_factory.mktemp("state"), state), state)


def test_tensors_that_share_memory_come_back(tmp_path):
    base = torch.arange(4.0)
    assert same(again(tmp_path, [base, base, base[1:]]), [base, base.clone(), base[1:].clone()])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [1, {2}]}, r"state\['a'\]\[1\] is a set"),
        ({"a": {1.5: 0}}, r"state\['a'\] has the key 1.5"),
        ({True: 0}, "has the key True"),
    ],
)
def test_what_a_state_can_not_hold_is_named(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        write_state(tmp_path / "x.state", state, kind=KIND)
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    path = tmp_path / "x.state"
    write_state(path, {"w": torch.arange(16.0), "n": 3}, kind=KIND)
    whole = path.read_bytes()
    for length in {0, 1, 7, 8, 9, len(whole) // 4, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(StateFileError, match=r"x.state is cut off or damaged"):
            read_state(path, kind=KIND)


def test_a_changed_bit_is_found(tmp_path):
    path = tmp_path / "x.state"
    write_state(path, {"w": torch.arange(16.0)}, kind=KIND)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(StateFileError, match="checksum"):
        read_state(path, kind=KIND)


def test_files_of_another_kind_are_refused(tmp_path):
    write_state(tmp_path / "x.state", 1, kind="another state")
    with pytest.raises(StateFileError, match="is no test state: it says that it is 'another state'"):
        read_state(tmp_path / "x.state", kind=KIND)
    save_file({"w": torch.zeros(1)}, tmp_path / "y.state")
    with pytest.raises(StateFileError, match="is no test state"):
        read_state(tmp_path / "y.state", kind=KIND)
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "absent", kind=KIND)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_state(tmp_path / "x.state", 1, kind=KIND)

    def no_space(*_):
        raise OSError("no space left")

    monkeypatch.setattr("lowbit_sim.training.state_file.os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_state(tmp_path / "x.state", 2, kind=KIND)
    assert read_state(tmp_path / "x.state", kind=KIND) == 1
