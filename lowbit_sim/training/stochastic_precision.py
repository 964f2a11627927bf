"""Stochastic precision: in every step each block runs on its grid with a probability that rises to 1.

    m_b ~ Bernoulli(p_t):   block b runs on its grids where m_b is 1, in full precision where it is 0

Both branches read the same weights, and the gradient goes through the one that ran. p_t rises over the first part of
the run; the rest of it is trained with every block on its grid. Evaluations have all blocks on their grids.

| schedule | p at the share s of the rise                  |
|----------|-----------------------------------------------|
| linear   | p_0 + (1 - p_0) s                             |
| stepwise | 1 - (1 - p_0) 2^-n in its n-th quarter, n = 0 .. 3: 1/2, 3/4, 7/8, 15/16 from p_0 = 1/2 |

Source: Zhuang et al., "Effective Training of Convolutional Neural Networks with Low-bitwidth Weights and
Activations", TPAMI 2021 (arXiv 1908.04680), of which the abstract is verified: in each step a random part of the
sub-networks is quantised and the rest runs in full precision, in one stage. All else is ours: what a block is, the
schedules and their numbers. The stepwise one follows the portions of Dong et al., "Learning Accurate Low-Bit Deep
Neural Networks with Stochastic Quantization", BMVC 2017, as they are recalled, not verified.

The draws are a function of the seed, the step and the block's number (`numerics.random`), so that a run which goes on
from a checkpoint draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, get_args

from torch import nn

from lowbit_sim.nn.dorefa_grid import Precision, check_clip
from lowbit_sim.nn.precision_switch import add_switches, block_of, set_precision, switches
from lowbit_sim.nn.split_norm import run_in_full, split_norms
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.training.dorefa import check_share
from lowbit_sim.training.grid_owners import refuse_other_owners
from lowbit_sim.training.recipe import Recipe, Stage, Step

RiseSchedule = Literal["linear", "stepwise"]
BatchNorm = Literal["shared", "split"]

#: The operand number of the draws: layers, updates and other recipes have others.
BLOCK_STREAM = 16 + 10

#: Bits of a draw, and stretches that a rise is priced in.
_DRAW_BITS, _PRICED_PARTS = 32, 8


def probability(share: float, initial: float, schedule: RiseSchedule) -> float:
    """p at a share of the rise; 1 from its end on.

    Args:
        share: How much of the rise is over, at least 0.
        initial: p_0.
        schedule: How p rises.
    """
    if share >= 1:
        return 1.0
    if schedule == "linear":
        return initial + (1 - initial) * share
    return 1 - (1 - initial) * 2.0 ** -int(4 * share)


class StochasticPrecision:
    """A recipe; see the module.

    Args:
        precision: Of a block on its grids.
        steps: Steps of the run.
        seed: Of the draws.
        initial: p_0, from 0 to 1.
        rise: Share of the run over which p rises, at least 0 and at most 1; 0 is plain quantised training.
        schedule: "linear" or "stepwise".
        pretraining: Share of the run in full precision (p = 0) before the rise, at least 0 and below 1.
        batch_norm: Whether the batch normalisations inside the blocks are "shared" by both branches, or "split": with
            a set of parameters and statistics for each (see `nn.split_norm`).
        blocks: Patterns of the modules that are blocks; None for `block_of` each layer.
        layers: Patterns of the paths of the layers to quantise; None for all but the first and the last.
        clip: Upper end of the inputs' range.

    Raises:
        ValueError: A value outside its range, or an unknown name.
    """

    def __init__(
        self,
        precision: Precision,
        *,
        steps: int,
        seed: int = 0,
        initial: float = 0.5,
        rise: float = 0.75,
        schedule: RiseSchedule = "linear",
        pretraining: float = 0.0,
        batch_norm: BatchNorm = "shared",
        blocks: Sequence[str] | None = None,
        layers: Sequence[str] | None = None,
        clip: float = 1.0,
    ) -> None:
        check_clip(clip)
        check_share("pretraining", pretraining)
        for name, value in (("initial", initial), ("rise", rise)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value!r}")
        for name, value, known in (
            ("schedule of the rise", schedule, get_args(RiseSchedule)),
            ("batch_norm", batch_norm, get_args(BatchNorm)),
        ):
            if value not in known:
                raise ValueError(unknown(name, value, known))
        if pretraining + rise > 1:
            raise ValueError(
                f"pretraining {pretraining} and rise {rise} are more than the whole run together"
            )
        if steps < 1:
            raise ValueError(f"a run has at least one step, got {steps}")
        Stream(seed=seed)  # refuses what could not address random bits later
        self.precision, self.steps, self.seed = precision, steps, seed
        self.initial: float = initial
        self.schedule: RiseSchedule = schedule
        self.batch_norm, self.clip = batch_norm, clip
        self.blocks = None if blocks is None else tuple(blocks)
        self.layers = None if layers is None else tuple(layers)
        self._rise_from, self._rise_to = round(pretraining * steps), round((pretraining + rise) * steps)
        self._members: dict[str, list[str]] = {}
        self._epoch, self._drawn, self._quantized, self._probability = -1, 0, 0, 1.0

    def probability_at(self, step: int) -> float:
        """p_t of a step."""
        if step < self._rise_from:
            return 0.0
        if step >= self._rise_to:
            return 1.0
        return probability(
            (step - self._rise_from) / (self._rise_to - self._rise_from), self.initial, self.schedule
        )

    def is_quantized(self, step: int, block: int) -> bool:
        """m_b of a step and of a block's number."""
        bits = draw(Stream(seed=self.seed, step=step, site=block, operand=BLOCK_STREAM), 0, _DRAW_BITS)
        return bits < self.probability_at(step) * (1 << _DRAW_BITS)

    def stages(self) -> list[Stage]:
        """Full precision, the rise in parts that stand for what is drawn in them, and the rest."""
        parts = min(_PRICED_PARTS, self._rise_to - self._rise_from)
        rise = [
            self._rise_from + (self._rise_to - self._rise_from) * i // max(parts, 1) for i in range(parts)
        ]
        firsts = [(0, "W32A32")] if self._rise_from else []
        firsts += [(first, f"{self.precision} with p {self.probability_at(first):.2g}") for first in rise]
        firsts += [(self._rise_to, str(self.precision))] if self._rise_to < self.steps else []
        ends = [*(first for first, _ in firsts[1:]), self.steps]
        return [
            Stage(name=name, first_step=first, steps=end - first)
            for (first, name), end in zip(firsts, ends, strict=True)
        ]

    def check_place(self, before: Mapping[str, Recipe], behind: Mapping[str, Recipe]) -> None:
        """Refuse other recipes that decide about weights or inputs."""
        refuse_other_owners(before, behind)

    def prepare(self, model: nn.Module) -> None:
        """Give the layers their switches, and the blocks' norms their second sets.

        Raises:
            ValueError: Layers that can't be switched, a layer that is in no block or in several, or blocks without a
                batch normalisation to split.
        """
        paths = add_switches(model, self.layers, clip=self.clip)
        for switch in switches(model).values():
            switch.check(self.precision)
        set_precision(model, self.precision)
        self._members = _members(model, paths, self.blocks)
        if self.batch_norm == "split" and not sum(split_norms(model, block) for block in self._members):
            raise ValueError(
                f"there is no batch normalisation to split inside the blocks {', '.join(self._members)}: leave "
                'batch_norm = "split" out'
            )

    def before_step(self, step: Step) -> None:
        """Draw the blocks' precisions."""
        if step.epoch != self._epoch:
            self._epoch, self._drawn, self._quantized = step.epoch, 0, 0
        self._probability = self.probability_at(step.index)
        for number, (block, layers) in enumerate(self._members.items()):
            on_grid = self.is_quantized(step.index, number)
            set_precision(step.model, self.precision if on_grid else Precision(), self.precision, layers)
            if self.batch_norm == "split":
                run_in_full(step.model, block, not on_grid)
            self._drawn += 1
            self._quantized += on_grid

    def on_gradients(self, step: Step) -> None:
        """Nothing."""

    def after_step(self, step: Step) -> None:
        """Between two steps the blocks' norms are on their own sets, for whatever runs them then."""
        if self.batch_norm == "split":
            for block in self._members:
                run_in_full(step.model, block, False)

    def measurements(self) -> dict[str, float]:
        """p of the epoch's last step, and the share of the epoch's blocks that ran on their grids."""
        share = self._quantized / self._drawn if self._drawn else 0.0
        return {"probability": self._probability, "quantized_share": share}


def _members(model: nn.Module, paths: Sequence[str], patterns: Sequence[str] | None) -> dict[str, list[str]]:
    """The layers of each block, in the model's order."""
    named = [name for name, _ in model.named_modules() if name]
    members: dict[str, list[str]] = {}
    for path in paths:
        block = block_of(path) if patterns is None else _only_block(path, patterns, named)
        members.setdefault(block, []).append(path)
    return members


def _only_block(path: str, patterns: Sequence[str], named: Sequence[str]) -> str:
    """The one block that a layer is in."""
    blocks = [name for name in named if any(fnmatchcase(name, pattern) for pattern in patterns)]
    around = [name for name in blocks if path == name or path.startswith(f"{name}.")]
    if len(around) != 1:
        raise ValueError(
            f"layer {path!r} is in {'no block' if not around else 'the blocks ' + ', '.join(around)}: blocks = "
            f"{list(patterns)} must name one module around each layer that is quantised"
        )
    return around[0]
