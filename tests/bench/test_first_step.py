from dataclasses import dataclass
from types import SimpleNamespace

from benchmarks.first_step import kernel_seconds


@dataclass(frozen=True)
class Event:
    """As numba records a compilation."""

    module: str
    name: str
    is_start: bool

    @property
    def data(self):
        function = SimpleNamespace(__module__=self.module, __qualname__=self.name)
        return {"dispatcher": SimpleNamespace(py_func=function)}


def start(name: str, module: str = "ours") -> Event:
    return Event(module, name, True)


def end(name: str, module: str = "ours") -> Event:
    return Event(module, name, False)


def test_seconds_of_a_callee_are_its_own():
    events = [
        (0.0, start("outer")),
        (1.0, start("inner")),
        (4.0, end("inner")),
        (6.0, end("outer")),
        (6.0, start("inner")),  # for other types
        (6.5, end("inner")),
    ]
    assert kernel_seconds(events) == {"ours.inner": 3.5, "ours.outer": 3.0}


def test_numbas_own_functions_count_with_their_caller():
    events = [
        (0.0, start("kernel")),
        (1.0, start("min", "numba.cpython.builtins")),
        (2.0, end("min", "numba.cpython.builtins")),
        (3.0, end("kernel")),
    ]
    assert kernel_seconds(events) == {"ours.kernel": 3.0}
