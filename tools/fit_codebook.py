"""Fit the best static codebook to the gradients of a study's own training.

    python tools/fit_codebook.py experiments/metagrad_digits.toml --seed 100

Trains one arm (the first native one, unless `--arm` names another) with a seed that the study should not report,
collects its layers' output gradients, and prints the line for the arm that is to use the codebook. Only training
images are seen.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.codebook import Codebook, grid_codebook
from lowbit_sim.study.arms import build_arm, recipes, settings
from lowbit_sim.study.config import ArmTable, Study
from lowbit_sim.study.data import load
from lowbit_sim.study.load_study import load_study
from lowbit_sim.training.gradient_samples import collected_gradients
from lowbit_sim.training.loop import train


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What to fit: levels, their width, and the rounding that they are best for."""

    levels: int = 15
    value_bits: int = 8
    stochastic: bool = True


def arm_of(study: Study, name: str | None) -> ArmTable:
    """The arm of a name, or the first native one.

    Raises:
        ValueError: There is none.
    """
    for arm in study.arms:
        if arm.name == name or (name is None and arm.is_native):
            return arm
    raise ValueError(unknown("arm", name or "native", [arm.name for arm in study.arms]))


def fitted(study: Study, arm: ArmTable, seed: int, fit: Fit, *, data_root: Path | None = None) -> Codebook:
    """The codebook for every tenth step of one run of an arm."""
    data = load(study.data.name, data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    model = build_arm(study, arm, data, seed)
    with collected_gradients(model, every=10) as samples:
        train(
            model,
            data.train,
            data.test,
            settings(study, arm, seed),
            recipes=recipes(study, arm, data, seed),
        )
    return grid_codebook(samples.values(), fit.levels, value_bits=fit.value_bits, stochastic=fit.stochastic)


def line(codebook: Codebook, fit: Fit) -> str:
    """The codebook as the line of an arm."""
    bits = "" if fit.stochastic else ", random_bits = 0"
    values = ", ".join(f"{value:.0f}.0" for value in codebook.values)
    return f'gradient = {{ name = "codebook", values = [{values}], top = {codebook.top}{bits} }}'


def main(arguments: list[str] | None = None) -> None:
    """Print the line and the error that it stands for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="a study file")
    parser.add_argument("--arm", help="name of the arm that trains (the first native one)")
    parser.add_argument("--seed", type=int, default=100, help="one that the study does not report (100)")
    parser.add_argument("--levels", type=int, default=15, help="how many levels (15)")
    parser.add_argument("--value-bits", type=int, default=8, help="width of a level as an integer (8)")
    parser.add_argument("--nearest", action="store_true", help="for rounding to nearest, not stochastic")
    parser.add_argument("--data-root", type=Path, help="folder of the data sets (LOWBIT_DATA)")
    given = parser.parse_args(arguments)
    study = load_study(given.study)
    if given.seed in study.seeds:
        parser.error(f"seed {given.seed} is one of those that the study reports, {list(study.seeds)}")
    fit = Fit(levels=given.levels, value_bits=given.value_bits, stochastic=not given.nearest)
    codebook = fitted(study, arm_of(study, given.arm), given.seed, fit, data_root=given.data_root)
    print(line(codebook, fit))
    print(f"# mean squared error {codebook.error:.3g} of the squared largest magnitude")


if __name__ == "__main__":
    main()
