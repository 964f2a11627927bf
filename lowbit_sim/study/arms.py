"""From an arm of a study to a model, its recipes and the price of its training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

import hw_models
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.convert import UnsupportedModuleError, convert
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.nn.registry import multiplies
from lowbit_sim.nn.rules import Rule, UnusedRuleError
from lowbit_sim.ops.elementwise import ElementwiseSpec
from lowbit_sim.study import describe, native_arms
from lowbit_sim.study.config import ArmTable, RuleTable, Study
from lowbit_sim.study.data import Dataset
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.mean_cost import mean_cost
from lowbit_sim.study.models import build
from lowbit_sim.study.numerics_config import activations, op_spec
from lowbit_sim.study.quantities import counted
from lowbit_sim.study.recipes import RecipeContext, RecipeTable
from lowbit_sim.study.results import ArmResult, Price, StageCost
from lowbit_sim.study.weights_config import preprocess
from lowbit_sim.trace import WorkloadTrace
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.gradient_clipping import ClipGradientNorm
from lowbit_sim.training.inference import trace_inference
from lowbit_sim.training.recipe import Composed, Recipe, Stage, compose, numbered
from lowbit_sim.training.settings import TrainingSettings, build_optimizer
from lowbit_sim.training.workload import trace_training_step


def settings(study: Study, arm: ArmTable, seed: int) -> TrainingSettings:
    """The hyperparameters of one run."""
    update = None if arm.update is None else arm.update.build()
    hyperparameters = study.training_of(arm).model_dump()
    return TrainingSettings(
        **hyperparameters, seed=seed, update=update, **native_arms.hyperparameters(arm.native)
    )


def recipes(study: Study, arm: ArmTable, data: Dataset, seed: int) -> dict[str, Recipe]:
    """The training algorithms of one run by their names, in the order in which they act.

    Raises:
        StudyError: A recipe that can't be built, or can't be among the others.
    """
    hyperparameters = settings(study, arm, seed)
    context = RecipeContext(seed=seed, steps=hyperparameters.steps(len(data.train)), settings=hyperparameters)
    built = [(table.name, _built(arm, table, context)) for table in arm.recipes]
    if arm.clip_gradient_norm is not None:
        built.append(("clip_gradient_norm", ClipGradientNorm(max_norm=arm.clip_gradient_norm)))
    named = numbered(built)
    with _naming(arm, "recipe "):
        compose(named)
    return named


@contextmanager
def _naming(arm: ArmTable, what: str = "") -> Iterator[None]:
    """Have what the block refuses name the arm."""
    try:
        yield
    except ValueError as error:
        raise StudyError(f"arm {arm.name!r}: {what}{error}") from error


def prepared_arm(study: Study, arm: ArmTable, data: Dataset, seed: int) -> tuple[nn.Module, Composed]:
    """The arm's model as its recipes have prepared it, and those.

    Raises:
        StudyError: As `build_arm` and `recipes`, or a model that a recipe is not for.
    """
    model, recipe = build_arm(study, arm, data, seed), compose(recipes(study, arm, data, seed))
    with _naming(arm, "recipe "):
        if arm.native == "int8":  # what trains is another model than what is priced
            recipe.prepare(trained_arm(study, arm, data, seed))
            recipe = compose(recipes(study, arm, data, seed))
        recipe.prepare(model)
    return model, recipe


def _built(arm: ArmTable, table: RecipeTable, context: RecipeContext) -> Recipe:
    try:
        return table.build(context)
    except ValueError as error:
        raise StudyError(f"arm {arm.name!r}: recipe {table.name!r}: {error}") from error


def build_arm(study: Study, arm: ArmTable, data: Dataset, seed: int) -> nn.Module:
    """The arm's model with its initial weights: the same for every arm of a seed.

    A native INT8 arm's is its emulated twin, which bills what it runs; `trained_arm` is the one that trains.

    Raises:
        StudyError: A model that does not fit the data, or a rule that does not fit the model.
    """
    model = _native_model(study, data, seed)
    rules = [Rule(rule.path, _rule_spec(rule), activations(rule)) for rule in arm.rules]
    weights = [(rule.path, rule.weights) for rule in arm.rules if rule.elementwise is None]
    try:
        model = convert(model, [*rules, Rule("*", op_spec(arm), activations(arm))], seed=seed)
    except (UnusedRuleError, UnsupportedModuleError) as error:
        raise StudyError(f"arm {arm.name!r}: {error}") from None
    try:
        return preprocess(model, [*weights, ("*", arm.weights)])
    except ValueError as error:
        raise StudyError(f"arm {arm.name!r}: {error}") from None


def trained_arm(study: Study, arm: ArmTable, data: Dataset, seed: int) -> nn.Module:
    """The model that the arm trains: `build_arm`'s, or one on the machine's own integer units.

    Raises:
        StudyError: As `build_arm`.
    """
    if arm.native != "int8":
        return build_arm(study, arm, data, seed)
    emulated = build_arm(study, arm, data, seed)  # which finds rules that no layer takes
    in_float32 = [
        path for path, m in emulated.named_modules() if multiplies(m) and not isinstance(m, EmulatedLayer)
    ]
    try:
        return native_arms.as_trained(_native_model(study, data, seed), arm.native, in_float32)
    except UnsupportedModuleError as error:
        raise StudyError(f"arm {arm.name!r}: {error}") from None


def _native_model(study: Study, data: Dataset, seed: int) -> nn.Module:
    return build(
        study.model.name, data.in_channels, data.classes, data.image_size, width=study.model.width, seed=seed
    )


def _rule_spec(rule: RuleTable) -> OpSpec | ElementwiseSpec | None:
    return op_spec(rule) if rule.elementwise is None else rule.elementwise.build()


def priced_arm(
    study: Study, arm: ArmTable, data: Dataset, profiles: Sequence[hw_models.HardwareProfile]
) -> ArmResult:
    """An arm without runs: its numerics in words, and its mean training step and an inference on every machine.

    Raises:
        StudyError: As `build_arm`, or numerics that don't fit the tensors of a layer.
    """
    spec = op_spec(arm)
    stages, inference = training_stages(study, arm, data), inference_pass(study, arm, data)
    by_rule = f" ({counted(len(arm.rules), 'rule')})" if arm.rules else ""
    return ArmResult(
        name=arm.name,
        native=arm.is_native,
        operands=_numerics_in_words(arm) + by_rule,
        accumulator=describe.accumulator(spec) + by_rule,
        gradient_rounding=describe.gradient_rounding(spec),
        recipes=describe.recipes(arm.recipes, arm.clip_gradient_norm),
        overrides=describe.overrides(arm.training),
        training=study.training_of(arm).model_dump(),
        prices=tuple(price_stages(stages, profile) for profile in profiles),
        inference=tuple(price(inference, profile) for profile in profiles),
    )


def _numerics_in_words(arm: ArmTable) -> str:
    """Operands, and what is not float32 beside them."""
    native = arm.native
    plain = describe.operands(op_spec(arm)) if isinstance(native, bool) else native_arms.operands(native)
    words = [plain]
    if (kept := activations(arm)) is not None:
        words.append(f"activations {describe.activations(kept)}")
    if arm.weights is not None:
        words.append(f"weights {arm.weights.described()}")
    if arm.update is not None:
        words.append(f"update {describe.update(arm.update.build())}")
    return ", ".join(words)


@dataclass(frozen=True, kw_only=True)
class TracedStage:
    """A stage of an arm's run.

    Attributes:
        name: What it is, or "" for a run of one stage.
        share: Its share of the run's steps.
        trace: What a machine runs in one of them.
    """

    name: str
    share: float
    trace: WorkloadTrace


def training_stages(study: Study, arm: ArmTable, data: Dataset, *, devices: int = 1) -> list[TracedStage]:
    """What a machine runs in a training step of each stage of an arm's run, with what its recipes bill.

    Args:
        study: The study.
        arm: The arm.
        data: Its first images are the batch.
        devices: Machines that share the batch.

    Raises:
        StudyError: As `build_arm`, a recipe that can't be built, or numerics that don't fit the tensors of a layer.
    """
    seed = study.seeds[0]
    model, recipe = prepared_arm(study, arm, data, seed)
    hyperparameters = settings(study, arm, seed)
    batch = data.train.first(hyperparameters.batch_size // devices)
    optimizer = build_optimizer(model, hyperparameters, recipe.without_weight_decay(model))
    stages = recipe.stages() or [Stage(name="", first_step=0, steps=1)]
    # A scale along an axis that a layer's tensor lacks, or that its GEMM sums over, is found here.
    with _naming(arm), native_arms.as_priced(arm.native):
        return [
            TracedStage(
                name=stage.name if len(stages) > 1 else "",
                share=stage.steps / sum(each.steps for each in stages),
                trace=trace_training_step(
                    model,
                    batch.inputs,
                    batch.targets,
                    optimizer,
                    recipes=list(recipe.by_name.values()),
                    accumulation=min(hyperparameters.accumulation, len(batch)),
                    autocast=hyperparameters.autocast,
                    index=stage.middle_step,
                ),
            )
            for stage in stages
        ]


def training_step(study: Study, arm: ArmTable, data: Dataset, *, devices: int = 1) -> WorkloadTrace:
    """What a machine runs in a training step of an arm; of a run in stages, in one of the last stage.

    Raises:
        StudyError: As `training_stages`.
    """
    return training_stages(study, arm, data, devices=devices)[-1].trace


def inference_pass(study: Study, arm: ArmTable, data: Dataset) -> WorkloadTrace:
    """What a machine runs to infer a batch with what an arm has trained.

    Raises:
        StudyError: As `prepared_arm`.
    """
    seed = study.seeds[0]
    model, _ = prepared_arm(study, arm, data, seed)
    batch = data.train.first(settings(study, arm, seed).batch_size)
    with _naming(arm), native_arms.as_priced(arm.native):
        with deterministic(0), torch.no_grad():
            model.train()(batch.inputs)  # learned scales and running ones get their first values in training
        return trace_inference(model, batch.inputs)


def price_stages(stages: Sequence[TracedStage], profile: hw_models.HardwareProfile) -> Price:
    """The cost of the mean step of a run on a machine, or the reason why the machine can't run one of its stages."""
    prices = [price(stage.trace, profile) for stage in stages]
    if len(prices) == 1:
        return prices[0]
    for stage, each in zip(stages, prices, strict=True):
        if each.cost is None:
            return replace(each, refusal=f"stage {stage.name}: {each.refusal}")
    costs = [
        (s.share, p.cost)
        for s, p in zip(stages, prices, strict=True)
        if isinstance(p.cost, hw_models.CostReport)
    ]
    named = tuple(
        StageCost(name=stage.name, share=share, cycles=cost.cycles, energy_pj=cost.energy_pj)
        for stage, (share, cost) in zip(stages, costs, strict=True)
    )
    return Price(machine=prices[0].machine, cost=mean_cost(costs), stages=named)


def price(trace: WorkloadTrace, profile: hw_models.HardwareProfile) -> Price:
    """The cost of a trace on a machine, or the reason why the machine can't run it."""
    name = profile.machine.name
    try:
        return Price(machine=name, cost=hw_models.estimate(trace, profile))
    except hw_models.UnsupportedOperandError as error:
        return Price(machine=name, cost=None, refusal=str(error))
