"""A study of graph hypernetworks, as a TOML file: which networks, how the hypernetwork learns, how it is tested.

    title, question, seeds, profiles
    [data]            the images
    [space]           the networks that are learned from, and how many
    [hypernetwork]    its sizes
    [training]        meta-batches and steps
    [evaluation]      precisions, and [evaluation.splits.NAME]: held-out networks, with what differs from [space]
    [fine_tuning]     optional: networks that train on from predicted weights, beside some from random ones
    [[arms]]          name, strategy, precision: one hypernetwork each

The schema is strict: an unknown key, a wrong type and an unknown name are errors that say where.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from lowbit_sim.arith.mac import AccumulatorOverflow, MacUnit
from lowbit_sim.config.layer_tables import LayerTable
from lowbit_sim.config.mac_config import Bits
from lowbit_sim.config.numerics import check_keys, check_numerics, layer_spec
from lowbit_sim.config.tables import KeyedError, Strict, checked
from lowbit_sim.ghn.precision import Precision, WeightScale, parse_precision
from lowbit_sim.ghn.strategies import Strategy, StrategyName
from lowbit_sim.study.config import DataTable, Seed
from lowbit_sim.study.ghn.space_config import (
    AsTuple,
    HypernetworkTable,
    MetaTrainingTable,
    Names,
    SpaceTable,
    SplitTable,
)
from lowbit_sim.study.recipes import AnyRecipe
from lowbit_sim.study.training_config import Decay, Momentum, Positive, Rate


class EvaluationTable(Strict):
    """How predicted networks are tested.

    Attributes:
        precisions: "W32A32", "W8A8", "W4A4", ...
        edge_bits: Bits of the first and the last layer where others are quantised; as many as those, if left out.
        calibration_batches: Batches of 64 training images whose statistics recalibrated batch-norms have.
        accumulator_bits, overflow: Of the emulated GEMMs.
        splits: Held-out networks, by name.
    """

    precisions: Names
    edge_bits: Positive | None = None
    calibration_batches: Positive = 8
    accumulator_bits: Bits = 32
    overflow: AccumulatorOverflow = "wrap"
    splits: dict[str, SplitTable]

    @model_validator(mode="after")
    def _precisions_are(self) -> Self:
        self.build()
        return self

    @model_validator(mode="after")
    def _splits_are(self) -> Self:
        if not self.splits:
            raise KeyedError(("splits",), "give at least one, as in [evaluation.splits.test]")
        if "train" in self.splits:
            raise KeyedError(("splits", "train"), "this is the split that is learned from: take another name")
        return self

    def build(self, weight_scale: WeightScale = "absmax") -> dict[str, Precision]:
        """The precisions by their names.

        Args:
            weight_scale: Of the weights, where they are quantised.
        """
        return {
            name: parse_precision(name)
            if name == "W32A32"
            else parse_precision(name, edge_bits=self.edge_bits, weight_scale=weight_scale)
            for name in self.precisions
        }

    def mac(self) -> MacUnit:
        """The accumulator."""
        return MacUnit(accumulator_bits=self.accumulator_bits, overflow=self.overflow)


class FineTuningTable(Strict):
    """Quantisation-aware training of some held-out networks, from predicted weights and from random ones.

    Attributes:
        split: Whose first networks they are.
        networks: How many.
        precision, weight_scale: Of the forward pass; gradients stay in float32 unless `numerics` says otherwise.
        epochs, batch_size, momentum, weight_decay: Of stochastic gradient descent with a cosine rate.
        learning_rates: Each is tried for every start.
        recipes: Training algorithms, which act in this order.
        numerics: The accumulator of the forward GEMM and the backward GEMMs.
    """

    split: str
    networks: Positive
    precision: str
    weight_scale: WeightScale = "absmax"
    epochs: Positive
    learning_rates: Annotated[tuple[Rate, ...], AsTuple, Field(min_length=1)]
    batch_size: Positive = 64
    momentum: Momentum = 0.9
    weight_decay: Decay = 0.0
    recipes: Annotated[tuple[AnyRecipe, ...], AsTuple] = ()
    numerics: LayerTable | None = None

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        parse_precision(self.precision, weight_scale=self.weight_scale)
        _check_layer(self.numerics)
        return self


class ArmTable(Strict):
    """One hypernetwork: how the networks are quantised while it learns.

    Attributes:
        name: Its line in the tables.
        strategy: "float", "simquant" or "noisequant".
        precision: Of the last two.
        edge_bits: As in the evaluation.
        weight_scale: "absmax" or "sawb": of the weights in the training and in the tests.
        numerics: Of simquant: the layers' emulated GEMMs in place of float32 ones on rounded operands. Format and
            scale of the forward operands are the precision's; the accumulator and the backward GEMMs are the table's.
        fine_tune: Whether its predictions are starts of `[fine_tuning]`.
    """

    name: str = Field(min_length=1)
    strategy: StrategyName = "float"
    precision: str | None = None
    edge_bits: Positive | None = None
    weight_scale: WeightScale = "absmax"
    numerics: LayerTable | None = None
    fine_tune: bool = True

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        if (self.strategy == "float") != (self.precision is None):
            raise KeyedError(
                ("precision",),
                "strategy 'float' has none"
                if self.precision
                else f"give the bits that {self.strategy} trains for",
            )
        if self.precision is None and self.edge_bits is not None:
            raise KeyedError(("edge_bits",), "would have no effect: strategy 'float' quantises no layer")
        _check_layer(self.numerics)
        checked(self.build)
        return self

    def build(self) -> Strategy:
        """The strategy."""
        return Strategy(
            name=self.strategy,
            precision=self._precision(),
            numerics=None if self.numerics is None else layer_spec(self.numerics),
        )

    def _precision(self) -> Precision:
        if self.precision is None:
            return Precision()
        return parse_precision(self.precision, edge_bits=self.edge_bits, weight_scale=self.weight_scale)


def _check_layer(table: LayerTable | None) -> None:
    """Refuse numerics that can't be.

    Raises:
        ValueError: They can't.
    """
    if table is None:
        return
    if table.format is None:
        raise KeyedError(("numerics",), 'numerics give a format, as in { format = "int8" }')
    if table.activations is not None:
        raise KeyedError(
            ("numerics", "activations"), "the networks' tensors between layers stay in float32 here"
        )
    check_keys(table)
    checked(lambda: check_numerics(table))


class GhnStudy(Strict):
    """A study.

    Attributes:
        title: A name of few words; the run folder is named after it.
        question: What the study is to find out.
        seeds: One hypernetwork of every arm for each.
        profiles: Machines that price a training step and the networks' inference: names, or paths of TOML files.
        data, space, hypernetwork, training, evaluation, fine_tuning: What all arms share.
        arms: What differs.
    """

    title: str = Field(min_length=1)
    question: str = ""
    seeds: Annotated[tuple[Seed, ...], AsTuple, Field(min_length=1)]
    profiles: Annotated[tuple[str, ...], AsTuple] = ()
    data: DataTable
    space: SpaceTable
    hypernetwork: HypernetworkTable = HypernetworkTable()
    training: MetaTrainingTable
    evaluation: EvaluationTable
    fine_tuning: FineTuningTable | None = None
    arms: Annotated[tuple[ArmTable, ...], AsTuple, Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        given: dict[str, list[Any]] = {
            "arm": [arm.name for arm in self.arms],
            "seed": list(self.seeds),
            "profile": list(self.profiles),
            "precision": list(self.evaluation.precisions),
        }
        for what, values in given.items():
            twice = [str(value) for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is given more than once")
        return self

    @model_validator(mode="after")
    def _splits_can_be(self) -> Self:
        for name, split in self.evaluation.splits.items():
            try:
                split.on(self.space)
            except ValueError as error:
                raise KeyedError(("evaluation", "splits", name), str(error)) from None
        for number, arm in enumerate(self.arms):
            try:
                self.evaluation.build(arm.weight_scale)
            except ValueError as error:
                raise KeyedError(("arms", number, "weight_scale"), str(error)) from None
        tuned = self.fine_tuning
        if tuned is None:
            return self
        if tuned.split not in self.evaluation.splits:
            known = ", ".join(self.evaluation.splits)
            raise KeyedError(("fine_tuning", "split"), f"there is no such split: known are {known}")
        if tuned.networks > self.evaluation.splits[tuned.split].networks:
            raise KeyedError(
                ("fine_tuning", "networks"),
                f"split {tuned.split!r} has {self.evaluation.splits[tuned.split].networks} networks",
            )
        return self

    @model_validator(mode="after")
    def _kernels_fit(self) -> Self:
        operators = {*self.space.operators}
        for split in self.evaluation.splits.values():
            operators |= {*(split.operators or ())}
        largest = max(self.space.stem_kernels + tuple(_kernel(each) for each in operators))
        if largest > self.hypernetwork.kernel:
            raise KeyedError(
                ("hypernetwork", "kernel"),
                f"the space has kernels of {largest}x{largest}: the hypernetwork must make as large ones",
            )
        return self


def _kernel(operator: str) -> int:
    """Size of an operator's kernel; of a pool or a skip 1, as there is no weight."""
    size = operator.rpartition("_")[2]
    return 1 if "pool" in operator or not size[0].isdigit() else int(size[0])
