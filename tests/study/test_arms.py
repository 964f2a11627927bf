import re
from pathlib import Path

import pytest
import torch

import hw_models
import lowbit_sim as lb
from lowbit_sim.nn.elementwise import attachments
from lowbit_sim.study.arms import build_arm, priced_arm, settings, training_step
from lowbit_sim.study.config import Study
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import load_study
from lowbit_sim.study.numerics_config import op_spec
from lowbit_sim.study.run import run_study
from lowbit_sim.study.run_folder import create_run_folder
from lowbit_sim.training.optimizers import SGD
from lowbit_sim.training.settings import build_optimizer
from tests.study.examples import study
from tests.study.tables import STOCHASTIC

FORMATS = load_study(Path(__file__).parents[2] / "experiments" / "formats.toml")
PROFILES = [hw_models.load(name) for name in hw_models.profile_names()]
UPDATE = {"weight": "bf16", "momentum": "bf16", "rounding": STOCHASTIC}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", None, limit=32, test_limit=16)


def arm_of(**keys) -> Study:
    return study(arms=[{"name": "arm", **keys}])


@pytest.mark.parametrize("arm", FORMATS.arms, ids=lambda arm: arm.name)
def test_every_format_has_a_price_or_a_reason_on_every_machine(arm, digits):
    small = FORMATS.model_copy(update={"model": FORMATS.model.model_copy(update={"width": 4})})
    result = priced_arm(small, arm, digits, PROFILES)
    assert [price.machine for price in result.prices] == [p.machine.name for p in PROFILES]
    for price in result.prices:
        if price.cost is None:
            assert re.search("lhs is .* multiplies (no )?integers", price.refusal)
        else:
            assert price.cost.total.cycles > 0
            assert price.cost.energy_low_pj <= price.cost.energy_pj <= price.cost.energy_high_pj
    assert any(price.cost is not None for price in result.prices)
    assert result.native == (arm.name == "fp32")


def test_an_arm_with_an_update_trains_with_the_low_precision_optimiser(digits):
    subject = arm_of(native=True, update=UPDATE)
    arm = subject.arms[0]
    assert arm.update is not None
    model = build_arm(subject, arm, digits, seed=3)
    optimizer = build_optimizer(model, settings(subject, arm, 3))
    assert isinstance(optimizer, SGD)
    assert optimizer.param_groups[0]["update"] == arm.update.build()
    assert optimizer.param_groups[0]["seed"] == 3
    plain = study(arms=[{"name": "arm", "native": True}])
    assert type(build_optimizer(model, settings(plain, plain.arms[0], 3))) is torch.optim.SGD


@pytest.mark.parametrize("numerics", [{"native": True}, {"format": "int8"}], ids=str)
def test_a_step_with_accumulation_is_billed_for_each_micro_batch(digits, numerics):
    def step(**keys):
        subject = arm_of(**numerics, **keys)
        return training_step(subject, subject.arms[0], digits)

    whole, halves = step(), step(training={"accumulation": 2})
    assert [(e.layer, e.role, e.count * e.M * e.N * e.K) for e in halves.gemms] == 2 * [
        (e.layer, e.role, e.count * e.M * e.N * e.K // 2) for e in whole.gemms
    ]
    [update] = [e for e in halves.vectors if e.kind == "optimizer_update"]
    assert update == [e for e in whole.vectors if e.kind == "optimizer_update"][0]


def test_an_update_is_described_and_is_not_native(digits):
    subject = arm_of(native=True, update=UPDATE)
    result = priced_arm(subject, subject.arms[0], digits, [])
    assert (result.operands, result.native) == ("fp32, update bf16 stochastic (r=8)", False)


def test_an_axis_that_does_not_fit_a_layer_is_named(digits):
    operand = {"format": "int8", "granularity": {"axis": 1}}
    subject = arm_of(format="int8", output={"rhs": operand})
    with pytest.raises(StudyError, match="arm 'arm': layer '.*weight has a scale for each index of axis 1"):
        priced_arm(subject, subject.arms[0], digits, [])


def test_an_element_wise_rule_rounds_modules_without_gemms(digits):
    rules = [{"path": "*", "elementwise": {"output": "bf16"}}]
    subject = arm_of(format="int8", rules=rules)
    model = build_arm(subject, subject.arms[0], digits, seed=0)
    rounded = dict(attachments(model))
    bf16 = lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0))
    assert rounded
    assert {r.spec for r in rounded.values()} == {lb.ElementwiseSpec(output=bf16)}
    assert not any(isinstance(model.get_submodule(path), torch.nn.Linear) for path in rounded)
    assert not priced_arm(subject, subject.arms[0], digits, []).native


def test_new_numerics_run_and_run_again_from_their_folder(tmp_path):
    products = tmp_path / "mine.csv"
    products.write_text("\n".join(",".join(str(a * b) for b in range(4)) for a in range(4)))
    arms = [
        {"name": "update", "format": "mxfp4", "gradient_rounding": STOCHASTIC, "update": UPDATE},
        {
            "name": "elementwise",
            "native": True,
            "rules": [
                {"path": "*", "elementwise": {"grad_input": {"format": "bf16", "rounding": STOCHASTIC}}}
            ],
        },
        {
            "name": "products",
            "format": "uint2",
            "scale": "percentile",
            "mac": {"products": str(products), "product_signed": False},
        },
        {"name": "bhq", "format": "int8", "gradient": "bhq", "granularity": "sample"},
        {"name": "learned", "format": "int4", "output": LEARNED, "grad_input": RHS, "grad_weight": RHS},
    ]
    small = {"epochs": 1, "batch_size": 32, "learning_rate": 0.1}
    first = run_study(study(arms=arms, training=small), out=tmp_path)
    products.unlink()
    again = run_study(load_study(first.folder / "study.toml"), out=tmp_path)
    assert (first.folder / "products" / "mine.csv").exists()
    for one, other in zip(first.result.arms, again.result.arms, strict=True):
        assert one.operands == other.operands
        losses = [[run.training.epochs[0].train_loss for run in arm.runs] for arm in (one, other)]
        assert losses[0] == losses[1]


def test_files_of_products_with_one_name_are_kept_apart(tmp_path):
    macs = []
    for folder, product in (("a", lambda a, b: a * b), ("b", lambda a, b: a * b + 1)):
        file = tmp_path / folder / "mine.csv"
        file.parent.mkdir()
        file.write_text("\n".join(",".join(str(product(a, b)) for b in range(4)) for a in range(4)))
        macs.append({"products": str(file), "product_signed": False})
    arm = {"format": "uint2", "output": {"mac": macs[0]}, "grad_input": {"mac": macs[1]}}
    subject = arm_of(**arm, grad_weight={"mac": macs[0]})
    folder = create_run_folder(tmp_path, subject)
    [kept] = load_study(folder.path / "study.toml").arms
    assert op_spec(kept) == op_spec(subject.arms[0])
    assert sorted(p.name for p in (folder.path / "products").iterdir()) == ["mine-2.csv", "mine.csv"]


STEP = {"format": "int4", "scale": "learned"}
LEARNED = {"lhs": STEP, "rhs": STEP}
RHS = {"lhs": "int8", "rhs": STEP}
