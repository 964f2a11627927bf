"""The mutation check's table fits the code, and its verdicts mean what they say. `make mutate` runs the mutants."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import mutate  # noqa: E402
from mutants import MUTANTS, Mutant  # noqa: E402


def test_every_mutation_has_its_place():
    assert len(MUTANTS) >= 25
    assert mutate.misplaced(MUTANTS, ROOT) == []
    assert len({(m.file, m.name) for m in MUTANTS}) == len(MUTANTS)
    assert {Path(m.file).parts[1] for m in MUTANTS} == {"numerics", "quant", "arith", "ops", "training"}


def test_a_text_that_is_gone_or_not_alone_is_said_so():
    first = MUTANTS[0]
    gone, common = replace(first, old="no such text"), replace(first, old="return")
    assert "stands 0 times" in mutate.misplaced([gone], ROOT)[0]
    assert "expected once" in mutate.misplaced([common], ROOT)[0]
    assert (
        "no file tests/absent.py" in mutate.misplaced([replace(first, tests=("tests/absent.py",))], ROOT)[0]
    )


@pytest.mark.parametrize(
    ("new", "verdict"),
    [("return 2", mutate.SURVIVED), ("return 3", mutate.CAUGHT), ("return (", mutate.BROKEN)],
)
def test_verdicts(tmp_path, new, verdict):
    copy = tmp_path / "repository"
    copy.mkdir()
    (copy / "code.py").write_text("def two():\n    return 1 + 1\n")
    (copy / "two_code.py").write_text((copy / "code.py").read_text())
    (copy / "test_it.py").write_text("from two_code import two\n\n\ndef test_two():\n    assert two() == 2\n")
    mutant = Mutant(name="two", file="two_code.py", old="return 1 + 1", new=new, tests=("test_it.py",))
    outcome = mutate.judge(mutant, copy, tmp_path / "cache")
    assert outcome.verdict == verdict
    assert (copy / "two_code.py").read_text() == "def two():\n    return 1 + 1\n"
