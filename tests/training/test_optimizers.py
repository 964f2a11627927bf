"""The low-precision weight update: torch's bits without formats, the definition's bits with them."""

import copy
import io
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.numerics.random import draw
from lowbit_sim.numerics.reference import decode_value, encode_value
from lowbit_sim.training.optimizers import SGD, Adam, AdamW, LowPrecisionOptimizer
from lowbit_sim.training.update_spec import UPDATE_STREAMS, UpdateSpec
from lowbit_sim.training.workload import trace_training_step

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
FP16_169 = lb.FloatFormat(exponent_bits=6, mantissa_bits=9, bias=31, name="fp16_169")
FIXED_16_12 = lb.parse_format("fixed<16,12>")


NEAREST = lb.Rounding()


def cast(fmt: lb.Format, rounding: lb.Rounding = NEAREST) -> lb.Quantizer:
    return lb.Quantizer(fmt, scale=lb.FixedScale(1.0), rounding=rounding)


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=generator)) for s in [(7, 5), (40,), (), (2, 3, 4)]]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(s, generator=generator) for s in [(7, 5), (40,), (), (2, 3, 4)]]


def run(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: range) -> list[Tensor]:
    for step in steps:
        for p, g in zip(params, gradients(step), strict=True):
            p.grad = g
        optimizer.step()
    return [p.detach().clone() for p in params]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


SGD_OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "everything": {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01, "maximize": True},
    "nesterov": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
}
ADAM_OPTIONS = {
    "plain": {},
    "decay": {"weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-4},
    "maximize": {"maximize": True},
}


@pytest.mark.parametrize("name", SGD_OPTIONS)
def test_without_formats_sgd_has_torch_s_bits(name) -> None:
    mine, theirs = parameters(), parameters()
    options = {"lr": 0.05, **SGD_OPTIONS[name]}
    expected = run(torch.optim.SGD(theirs, foreach=False, **options), theirs, range(4))
    assert same(run(SGD(mine, **options), mine, range(4)), expected)


@pytest.mark.parametrize("name", ADAM_OPTIONS)
@pytest.mark.parametrize(
    ("mine", "theirs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)], ids=["Adam", "AdamW"]
)
def test_without_formats_adam_has_torch_s_bits(mine, theirs, name) -> None:
    ours, others = parameters(), parameters()
    options = {"lr": 0.05, **ADAM_OPTIONS[name]}
    expected = run(theirs(others, foreach=False, **options), others, range(4))
    assert same(run(mine(ours, **options), ours, range(4)), expected)


def test_the_decoupled_decay_of_adam() -> None:
    mine, theirs = parameters(), parameters()
    options = {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}
    expected = run(torch.optim.Adam(theirs, foreach=False, **options), theirs, range(3))
    assert same(run(Adam(mine, **options), mine, range(3)), expected)


def kept(x: float, quantizer: lb.Quantizer | None, stream: lb.Stream, element: int) -> float:
    """One number as it is kept, by the definition of rounding."""
    if quantizer is None:
        return x
    rounding = quantizer.rounding
    random = draw(stream, element, rounding.random_bits) if rounding.is_stochastic else 0
    return decode_value(encode_value(x, quantizer.format, rounding, random), quantizer.format)


class ScalarSgd:
    """SGD in exact fractions; right where no float32 operation rounds."""

    def __init__(self, spec: UpdateSpec, seed: int, lr, momentum, decay, nesterov, dampening) -> None:
        self.spec, self.seed, self.options = spec, seed, (lr, momentum, decay, nesterov, dampening)
        self.m: dict[tuple[int, int], Fraction] = {}

    def update(self, w: float, g: float, site: int, element: int, step: int) -> float:
        lr, momentum, decay, nesterov, dampening = map(Fraction, self.options)

        def keep(name: str, value: Fraction) -> Fraction:
            x = float(value)
            assert Fraction(float(torch.tensor(x))) == value, "the case is not exact"
            stream = lb.Stream(seed=self.seed, step=step, site=site, operand=UPDATE_STREAMS[name])
            return Fraction(kept(x, getattr(self.spec, name), stream, element))

        grad = keep("gradient", Fraction(g)) + decay * Fraction(w)
        if momentum:
            old = self.m.get((site, element))
            new = grad if old is None else momentum * old + (1 - dampening) * grad
            self.m[site, element] = keep("momentum", new)
            seen = self.m[site, element] if self.spec.state_reads == "rounded" else new
            grad = grad + momentum * seen if nesterov else seen
        return float(keep("weight", Fraction(w) - lr * grad))


SPECS = {
    "bf16": UpdateSpec.uniform(lb.BF16),
    "fp16 (1,6,9) stochastic": UpdateSpec.uniform(FP16_169, STOCHASTIC),
    "fixed stochastic": UpdateSpec.uniform(FIXED_16_12, STOCHASTIC),
    "fp8 unrounded": UpdateSpec(
        weight=cast(lb.BF16, STOCHASTIC), momentum=cast(lb.FP8_E5M2, STOCHASTIC), state_reads="unrounded"
    ),
    "gradient": UpdateSpec(
        gradient=cast(lb.FP8_E4M3FN, STOCHASTIC), momentum=cast(lb.parse_format("fixed<8,4>"))
    ),
    "weights only": UpdateSpec(weight=cast(lb.parse_format("fixed<8,6>"), lb.Rounding("down"))),
}


def dyadic(shape: tuple[int, ...], seed: int) -> Tensor:
    """Multiples of 2^-5 up to 4, so that sums and products with powers of two are exact."""
    return torch.randint(-128, 129, shape, generator=torch.Generator().manual_seed(seed)) / 32.0


@pytest.mark.parametrize("nesterov", [False, True], ids=["", "nesterov"])
@pytest.mark.parametrize("name", SPECS)
def test_sgd_is_its_definition(name, nesterov) -> None:
    options = {"lr": 0.125, "momentum": 0.5, "weight_decay": 0.25, "nesterov": nesterov}
    dampening = 0.0 if nesterov else 0.5
    params = [nn.Parameter(dyadic(s, i)) for i, s in enumerate([(3, 5), (4,)])]
    reference = ScalarSgd(SPECS[name], 7, 0.125, 0.5, 0.25, nesterov, dampening)
    optimizer = SGD(params, dampening=dampening, update=SPECS[name], seed=7, **options)
    for step in range(3):
        expected = []
        for site, p in enumerate(params):
            p.grad = dyadic(tuple(p.shape), 10 * step + site)
            pairs = zip(p.flatten().tolist(), p.grad.flatten().tolist(), strict=True)
            expected.append([reference.update(w, g, site, i, step) for i, (w, g) in enumerate(pairs)])
        optimizer.step()
        assert [p.flatten().tolist() for p in params] == expected


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("decoupled", [False, True], ids=["Adam", "AdamW"])
def test_adam_is_its_definition(name, decoupled) -> None:
    """Each number alone: torch's float32 operations on scalars, the definition of rounding between them."""
    spec, lr, (b1, b2), eps, decay, seed = SPECS[name], 0.01, (0.9, 0.99), 1e-6, 0.1, 3
    params = [nn.Parameter(dyadic((3, 5), 0)), nn.Parameter(dyadic((4,), 1))]
    cls = AdamW if decoupled else Adam
    optimizer = cls(params, lr=lr, betas=(b1, b2), eps=eps, weight_decay=decay, update=spec, seed=seed)
    moments = {(s, i): (0.0, 0.0) for s, p in enumerate(params) for i in range(p.numel())}
    for step in range(3):
        expected = []
        for site, p in enumerate(params):
            p.grad = dyadic(tuple(p.shape), 10 * step + site)
            row = []
            for i, (w, g) in enumerate(zip(p.flatten().tolist(), p.grad.flatten().tolist(), strict=True)):

                def keep(kind: str, x: Tensor, site: int = site, i: int = i) -> Tensor:
                    stream = lb.Stream(seed=seed, step=step, site=site, operand=UPDATE_STREAMS[kind])  # noqa: B023
                    return torch.tensor([kept(x.item(), getattr(spec, kind), stream, i)])

                weight, grad = torch.tensor([w]), keep("gradient", torch.tensor([g]))
                if decoupled:
                    weight = weight * (1 - lr * decay)
                else:
                    grad = grad.add(weight, alpha=decay)
                m, v = (torch.tensor([x]) for x in moments[site, i])
                m, v = m.lerp(grad, 1 - b1), (v * b2).addcmul_(grad, grad, value=1 - b2)
                stored = keep("momentum", m), keep("second_moment", v)
                moments[site, i] = stored[0].item(), stored[1].item()
                if spec.state_reads == "rounded":
                    m, v = stored
                denominator = v.sqrt() / math.sqrt(1 - b2 ** (step + 1)) + eps
                new = weight.addcdiv(m, denominator, value=-lr / (1 - b1 ** (step + 1)))
                row.append(keep("weight", new).item())
            expected.append(row)
        optimizer.step()
        assert [p.flatten().tolist() for p in params] == expected


def test_scaled_and_block_formats() -> None:
    """A state in int8 with a scale for each 32 of a row, weights in MXFP8."""
    spec = UpdateSpec(
        weight=lb.Quantizer(lb.parse_format("mxfp8_e4m3")),
        momentum=lb.Quantizer(lb.INT8, granularity=lb.PerBlock(32)),
    )
    p = nn.Parameter(torch.randn(4, 40, generator=torch.Generator().manual_seed(0)))
    g = torch.randn(4, 40, generator=torch.Generator().manual_seed(1))
    start, p.grad = p.detach().clone(), g
    SGD([p], lr=0.5, momentum=0.9, update=spec).step()
    assert spec.momentum is not None
    assert spec.weight is not None
    moved = start.add(spec.momentum(g).dequantize(), alpha=-0.5)
    assert torch.equal(p, spec.weight(moved).dequantize())


def test_small_updates_vanish_with_nearest_rounding_and_survive_in_the_mean_with_stochastic() -> None:
    """Steps of 1/16 of a spacing: at 1 a bfloat16 has spacing 2^-7 above, and 320 steps move the weight by 20."""
    update, steps, n = 2.0**-11, 320, 512

    def trained(rounding: lb.Rounding) -> Tensor:
        p = nn.Parameter(torch.ones(n))
        optimizer = SGD([p], lr=1.0, update=UpdateSpec(weight=cast(lb.BF16, rounding)))
        for _ in range(steps):
            p.grad = torch.full((n,), -update)
            optimizer.step()
        return p.detach()

    assert torch.equal(trained(lb.Rounding()), torch.ones(n))
    final = trained(STOCHASTIC)
    # Each step goes up one spacing with probability 1/16 exactly: a binomial of mean 20 spacings, variance 18.75.
    z = (final.mean().item() - 1 - steps * update) / (2.0**-7 * math.sqrt(18.75 / n))
    assert abs(z) < 4
    assert len(set(final.tolist())) > 5


def stochastic(kind: type[LowPrecisionOptimizer], params, **options) -> LowPrecisionOptimizer:
    spec = UpdateSpec.uniform(lb.parse_format("fixed<8,4>"), STOCHASTIC)
    if kind is SGD:
        options.setdefault("momentum", 0.9)
    return kind(params, lr=0.05, update=spec, **options)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("medium", ["memory", "file"])
def test_a_state_dict_goes_on_bit_for_bit(kind, medium) -> None:
    whole, half = parameters(), parameters()
    expected = run(stochastic(kind, whole, seed=5), whole, range(5))
    first = stochastic(kind, half, seed=5)
    run(first, half, range(2))
    saved = copy.deepcopy(first.state_dict())
    if medium == "file":
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
    resumed = stochastic(kind, half)
    resumed.load_state_dict(saved)
    assert same(run(resumed, half, range(2, 5)), expected)
    # Without the counters other bits are drawn, so the test above can fail.
    again = parameters()
    first = stochastic(kind, again, seed=5)
    run(first, again, range(2))
    for state in first.state.values():
        state["random_step"] = 0
    assert not same(run(first, again, range(2, 5)), expected)


def test_a_torch_state_dict_fits() -> None:
    mine, theirs = parameters(), parameters()
    native = torch.optim.Adam(theirs, foreach=False)
    run(native, theirs, range(2))
    with torch.no_grad():
        for p, q in zip(mine, theirs, strict=True):
            p.copy_(q)
    optimizer = Adam(mine)
    optimizer.load_state_dict(copy.deepcopy(native.state_dict()))
    assert same(run(optimizer, mine, range(2, 4)), run(native, theirs, range(2, 4)))


def test_parameters_seeds_and_steps_draw_different_bits() -> None:
    def moved(seed: int) -> list[list[float]]:
        params = [nn.Parameter(torch.zeros(64)) for _ in range(2)]
        optimizer = SGD(params, lr=1.0, update=UpdateSpec(weight=cast(lb.INT8, STOCHASTIC)), seed=seed)
        seen = []
        for _ in range(2):
            for p in params:
                p.data.zero_()
                p.grad = torch.full((64,), -0.5)
            optimizer.step()
            seen += [p.tolist() for p in params]
        return seen

    rows = moved(0) + moved(1)
    assert len({tuple(row) for row in rows}) == len(rows)
    assert moved(0) == rows[:4]


def test_the_streams_are_not_the_layers_own() -> None:
    from lowbit_sim.ops.operand import ACCUMULATOR_STREAMS, OPERAND_STREAMS, SAMPLE_STRIDE

    layers = {s % SAMPLE_STRIDE for s in [*OPERAND_STREAMS.values(), *ACCUMULATOR_STREAMS.values()]}
    assert layers.isdisjoint(s % SAMPLE_STRIDE for s in UPDATE_STREAMS.values())


def test_a_parameter_without_a_gradient_stays_and_keeps_its_address() -> None:
    params = parameters()
    optimizer = stochastic(SGD, params)
    params[1].grad = torch.ones(40)
    before = [p.detach().clone() for p in params]
    optimizer.step()
    assert [torch.equal(p, q) for p, q in zip(params, before, strict=True)] == [True, False, True, True]
    assert [optimizer.state[p].get("random_step", 0) for p in params] == [0, 1, 0, 0]


def test_groups_have_their_own_formats() -> None:
    params, plain = parameters(), parameters()
    groups = [{"params": params[:1], "update": UpdateSpec.uniform(lb.FP8_E5M2)}, {"params": params[1:]}]
    optimizer = SGD(groups, lr=0.05)
    bits = run(optimizer, params, range(2))
    native = run(torch.optim.SGD(plain, lr=0.05, foreach=False), plain, range(2))
    assert same(bits[1:], native[1:])
    assert torch.equal(bits[0], bits[0].to(torch.float8_e5m2).float())
    assert not torch.equal(bits[0], native[0])


def test_schedulers_and_closures() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = SGD([p], lr=1.0, update=UpdateSpec.uniform(lb.BF16))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 3
    scheduler.step()
    assert optimizer.step(closure) == 0
    assert p.tolist() == [-0.5] * 3


def test_copies_go_on_alone() -> None:
    params = parameters()
    optimizer = stochastic(Adam, params)
    run(optimizer, params, range(2))
    twin_params, twin = copy.deepcopy((params, optimizer))
    assert same(run(twin, twin_params, range(2, 4)), run(optimizer, params, range(2, 4)))


def test_what_can_t_be_is_refused() -> None:
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(TypeError, match="weight of an update is a Quantizer or None, got IntFormat"):
        UpdateSpec(weight=lb.INT8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown state_reads 'round'"):
        UpdateSpec(state_reads="round")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="update is an UpdateSpec, got 'bf16'"):
        SGD([p], update="bf16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be from 0"):
        SGD([p], seed=-1)
    half = nn.Parameter(torch.ones(3, dtype=torch.float16))
    half.grad = torch.ones(3, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"parameter 0 has torch.float16; the update takes float32"):
        SGD([half]).step()
    p.grad = torch.tensor([1.0, math.nan, 0.0])
    with pytest.raises(lb.NotANumberError, match="1 of 3 elements of the gradient of parameter 0 are NaN"):
        SGD([p], momentum=0.5, update=UpdateSpec.uniform(lb.INT8)).step()


def test_a_step_with_a_nan_changes_nothing() -> None:
    """So that a training loop can skip it: neither weights nor the count of steps have moved."""
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = lb.Adam([first, second], lr=0.1, update=UpdateSpec.uniform(lb.BF16))
    first.grad, second.grad = torch.ones(3), torch.tensor([1.0, math.nan, 0.0])
    with pytest.raises(lb.NotANumberError, match="gradient of parameter 1 are NaN: nothing was updated"):
        optimizer.step()
    assert torch.equal(first, torch.ones(3))
    assert not optimizer.state
    second.grad = None
    optimizer.step()
    assert not torch.equal(first, torch.ones(3))


def test_a_running_scale_is_refused() -> None:
    with pytest.raises(
        ValueError, match="momentum of an update can't have a scale that depends on past steps"
    ):
        UpdateSpec(momentum=lb.Quantizer(lb.INT8, scale=lb.EmaScale(momentum=0.9)))


def billed(spec: UpdateSpec, kind: type[LowPrecisionOptimizer] = SGD) -> list[tuple[str, int, int, int, int]]:
    model = nn.Sequential(nn.Linear(6, 3))
    options = {"momentum": 0.9} if kind is SGD else {}
    optimizer = kind(model.parameters(), lr=0.1, update=spec, **options)
    trace = trace_training_step(model, torch.ones(4, 6), torch.zeros(4, dtype=torch.int64), optimizer)
    return [
        (e.kind, e.elements, e.read_bytes, e.write_bytes, e.random_bits)
        for e in trace.vectors
        if e.role == "update"
    ]


N = 6 * 3 + 3


def test_without_formats_the_bill_is_the_native_one() -> None:
    assert billed(UpdateSpec()) == [("optimizer_update", N, 3 * 4 * N, 2 * 4 * N, 0)]


def test_casts_are_billed_at_their_widths() -> None:
    spec = UpdateSpec(
        weight=cast(lb.BF16, STOCHASTIC), momentum=cast(lb.FP8_E5M2), second_moment=cast(lb.FP16)
    )
    assert billed(spec) == [
        ("optimizer_update", N, (2 + 4 + 1) * N, (2 + 1) * N, 0),
        ("random_bits", N, 0, 0, 8 * N),
        ("quantize", 2 * N, 0, 0, 0),
    ]
    assert billed(spec, Adam)[0] == ("optimizer_update", N, (2 + 4 + 1 + 2) * N, (2 + 1 + 2) * N, 0)


def test_a_scale_from_the_maximum_takes_a_second_pass() -> None:
    assert billed(UpdateSpec(momentum=lb.Quantizer(lb.INT8))) == [
        ("optimizer_update", N, (4 + 4 + 1) * N, (4 + 4) * N, 0),
        ("scale_reduction", N, 0, 0, 0),
        ("quantize", N, 4 * N, N, 0),
    ]
