"""What every machine that comes with the package keeps to."""

import tomllib

import pytest
import torch
from torch import nn

import hw_models
import lowbit_sim as lb
from hw_models.check import check
from hw_models.load import profile_path, profile_toml
from hw_models.schema.base import Figure
from hw_models.sources import numbers
from hw_models.spec_event import spec_event
from lowbit_sim.config.layer_tables import GEMM_ROLES
from lowbit_sim.trace import WorkloadTrace

NAMES = hw_models.profile_names()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def profile(name):
    return hw_models.load(name)


def test_there_are_ten_at_least():
    assert len(NAMES) >= 10
    assert {"edge_npu", "rapid_training", "tpu_v1"} <= set(NAMES)


def test_a_profile_loads_under_its_own_name(name, profile):
    assert profile.machine.name == name


def test_a_profile_read_back_from_its_values_is_equal(profile):
    again = hw_models.HardwareProfile.model_validate(profile.model_dump())
    assert again == profile
    assert hash(again) == hash(profile)
    assert again.op_spec() == profile.op_spec()


def test_the_file_gives_no_key_twice_and_no_profile_is_another(name):
    tables = {other: tomllib.loads(profile_toml(profile_path(other))) for other in NAMES}
    assert [other for other in NAMES if tables[other] == tables[name]] == [name]


def test_a_profile_has_no_error(name):
    path = profile_path(name)
    assert [f.at(name) for f in check(profile_toml(path), path.parent) if f.severity == "error"] == []


def test_every_source_is_a_citation_or_an_assumption_with_its_reason(profile):
    found = list(numbers(profile))
    assert len(found) > 30
    for number in found:
        assert number.source, number.location
        if number.is_assumption:
            assert len(number.source) > len("assumption: x"), number


def figures(profile) -> dict[str, Figure]:
    return {".".join(map(str, n.location)): n.value for n in numbers(profile) if isinstance(n.value, Figure)}


#: Machines with round numbers, so that a step can be worked out by hand.
ROUND = ("teaching_4x4",)

#: Keys of which published figures disagree by a factor.
DISPUTED = ("multiply", "add", "read_pj", "write_pj", "read_pj_per_bit", "write_pj_per_bit")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ROUND])
def test_disputed_figures_are_ranges_with_the_source_of_each_end(name, profile):
    disputed = {
        key: figure
        for key, figure in figures(profile).items()
        if any(part in key.split(".") for part in DISPUTED)
    }
    assert len(disputed) >= 4
    flat = [key for key, figure in disputed.items() if figure.low == figure.high]
    assert flat == []
    for figure in disputed.values():
        for end in ("low", "high"):
            assert getattr(figure, end) == figure.nominal or getattr(figure, f"{end}_source")


def test_the_validation_says_with_what_or_why_not(profile):
    validation = profile.machine.validation
    if validation.startswith("not validated"):
        assert validation.partition(":")[2].strip(), "give the reason"
    else:
        assert len(validation.split()) >= 4


def test_op_spec_trains_a_step_and_the_machine_prices_it(profile):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))
    lb.convert(model, [lb.Rule("*", profile.op_spec())])
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lb.record() as trace:
        loss = nn.functional.cross_entropy(model(torch.randn(4, 2, 6, 6)), torch.tensor([0, 1, 2, 0]))
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    report = hw_models.estimate(trace, profile)
    assert report.cycles > 0
    assert 0 < report.energy_low_pj <= report.energy_pj <= report.energy_high_pj


def test_the_machines_own_gemms_run_on_its_array_without_a_note(profile):
    events = [
        spec_event(profile.gemm_spec(role), role, 64, 64, 64)
        for role in GEMM_ROLES
        if profile.gemm_spec(role)
    ]
    assert events
    report = hw_models.estimate(WorkloadTrace(events), profile)
    assert 0 < report.utilization <= 1
    assert report.notes == ()


def peak_tops(name: str, bits: int, kind: str = "integer") -> float:
    profile = hw_models.load(name)
    mode = next(m for m in profile.array.modes if m.operand_bits == bits and m.kind == kind)
    return 2 * profile.array.macs_per_cycle(mode) * profile.clock.frequency_hz / 1e12


@pytest.mark.parametrize(
    ("name", "bits", "kind", "tops"),
    [
        pytest.param("tpu_v1", 8, "integer", 92, id="Jouppi 2017, table 2"),
        pytest.param("tpu_v4i", 16, "float", 138, id="Jouppi 2021, table 1"),
        pytest.param("rapid_training", 4, "integer", 104.9, id="IBM 2022"),
        pytest.param("h200", 8, "integer", 1979, id="H200 data sheet, dense"),
        pytest.param("h200", 16, "float", 989.5, id="H200 data sheet, dense BF16"),
        pytest.param("eyeriss", 16, "integer", 2 * 168 * 0.2e9 / 1e12, id="Chen 2017: 168 PEs at 200 MHz"),
    ],
)
def test_peaks_are_those_that_were_published(name, bits, kind, tops):
    assert peak_tops(name, bits, kind) == pytest.approx(tops, rel=0.01)


def test_tpu_v1_has_the_papers_ridge():
    """The paper's roofline bends at 1350 MACs for each byte of weights."""
    bandwidth = hw_models.load("tpu_v1").memory.dram.bandwidth_bytes_per_second
    assert peak_tops("tpu_v1", 8) / 2 * 1e12 / bandwidth == pytest.approx(1350, rel=0.002)


def test_op_spec_of_tpu_v1_is_uniform_int8():
    assert hw_models.load("tpu_v1").op_spec() == lb.OpSpec.uniform(lb.INT8, mac=lb.MacUnit())


def test_op_spec_of_the_training_chip_is_chunked_and_stochastic():
    spec = hw_models.load("rapid_training").op_spec()
    for role in GEMM_ROLES:
        gemm = getattr(spec, role)
        assert gemm.mac.chunk == 64
        assert gemm.lhs.rounding.is_stochastic == (role != "output")


def test_each_gemm_has_its_spec(profile):
    for role in GEMM_ROLES:
        assert profile.gemm_spec(role) is getattr(profile.op_spec(), role)
    with pytest.raises(
        ValueError, match="unknown GEMM role 'forward': known are grad_input, grad_weight, output"
    ):
        profile.gemm_spec("forward")
