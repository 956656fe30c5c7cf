"""The optimisers' CUDA kernels on the emulator: against float64, over dtypes and hostile schedules, and with planted faults."""

import math
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from numconv import _cuda
from numconv._tree import leaves
from numconv.train import adam, adamw, clip_by_global_norm, global_norm, optim, optim_cuda, sgd, step_decay, warmup_cosine

from .cuda_emulator.emulator import MISSING, Emulator
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEEDS = (0, 2, 3)
DTYPES = ("float32", "float64", "float16", "bfloat16")
SHAPES = ((), (1,), (255,), (3, 7, 41), (257, 5))
KINDS = ("adam", "sgd", "momentum", "nesterov")
BETAS, SCALE, FLOOR, RATE, DECAY, MOMENTUM = (0.9, 0.999), 0.05, 1e-2, 0.3, 0.1, 0.8


def arrays(shape, dtype):
    rng = np.random.default_rng(0)
    p, g, m, v = (rng.uniform(-1, 1, shape) for _ in range(4))
    return [np.asarray(a).astype(dtype) for a in (p, g, m, np.abs(v))]


def expected(kind, p, g, m, v):
    """A step in float64, and beside each result the sum of its terms' magnitudes."""
    p, g, m, v = (a.astype(np.float64) for a in (p, g, m, v))
    if kind == "sgd":
        return ((p - RATE * g, abs(p) + RATE * abs(g)),)
    if kind in ("momentum", "nesterov"):
        velocity, terms = MOMENTUM * m + g, MOMENTUM * abs(m) + abs(g)
        ahead = g + MOMENTUM * velocity if kind == "nesterov" else velocity
        return (p - RATE * ahead, abs(p) + RATE * (abs(g) + terms)), (velocity, terms)
    (b1, b2), shrink = BETAS, RATE * DECAY
    mean, square = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    terms = b1 * abs(m) + (1 - b1) * abs(g)
    away = np.sqrt(square) + FLOOR
    after = p - SCALE * mean / away - shrink * p
    return (after, (1 + shrink) * abs(p) + SCALE * terms / away), (mean, terms), (square, square)


def stepped(kind, p, g, m, v, on_gpu):
    """The same by a kernel, told by value or by what lies in memory."""
    if kind == "adam":
        now = optim.Corrections(SCALE, FLOOR, RATE)
        return optim_cuda.moved(p, g, m, v, np.array(now) if on_gpu else now, BETAS, DECAY)
    rate = np.array(RATE) if on_gpu else RATE
    if kind == "sgd":
        return optim_cuda.descended(p, g, None, rate, 0.0, False)[:1]
    return optim_cuda.descended(p, g, m, rate, MOMENTUM, kind == "nesterov")


def fault(kind, shape, dtype, seed, on_gpu=False):
    """Say how a step is wrong; nothing if it is right."""
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    given = arrays(shape, dtype)
    _cuda.backend = Emulator(seed)
    for name, got, (wanted, terms) in zip("pmv", stepped(kind, *given, on_gpu), expected(kind, *given), strict=False):
        if got.shape != shape or got.dtype != dtype:
            return f"{name} is {got.dtype}{got.shape}"
        # Ten roundings at most in the type of sums, and the last one to the dtype (whose subnormal step is absolute).
        sums = np.float64 if dtype == np.float64 else np.float32
        last = ml_dtypes.finfo(dtype)
        bound = (10 * np.finfo(sums).eps + float(last.eps)) * terms + float(last.smallest_subnormal)
        wrong = ~(np.abs(got.astype(np.float64) - wanted) <= bound)
        if wrong.any():
            return f"{name} of {kind}: {wrong.sum()} of {wrong.size} numbers"
    return ""


def corrections_fault():
    """Say how what Adam corrects by is wrong, of a step, a rate or both that lie on the GPU."""
    for step in (0, 1, 9, 999, 10**6):
        wanted = optim._corrections(step, RATE, BETAS, 1e-8)
        for given in ((np.array(step), RATE), (step, np.array(RATE)), (np.array(step), np.array(RATE))):
            got = optim_cuda.corrections(*given, BETAS, 1e-8)
            # 2 units in the last place of each power, in a difference that may be as small as 1 - beta.
            if not np.allclose(got, wanted, rtol=6 * 2.0**-52 / (1 - max(BETAS)), atol=0):
                return f"step {step}: {got}, not {wanted}"
    return ""


def norm_fault(dtypes, limit):
    """Say how the norm of several arrays, or the factor that brings it to the limit, is wrong."""
    rng = np.random.default_rng(1)
    sizes = ((3, 5), (2 * 4096 + 7,), (0, 4), (1,))
    given = [
        rng.uniform(-1, 1, size).astype(getattr(ml_dtypes, dtypes[i % len(dtypes)], dtypes[i % len(dtypes)]))
        for i, size in enumerate(sizes)
    ]
    wanted = math.sqrt(sum(float(np.sum(a.astype(np.float64) ** 2)) for a in given))
    length, factor = optim_cuda.norm(optim._square.formula, given, limit)
    eps = float(ml_dtypes.finfo(length.dtype).eps) + 2e-6 * (length.dtype != np.float64)
    if length.shape != () or not abs(float(length) - wanted) <= 2 * eps * wanted:
        return f"the norm is {length}, not {wanted}"
    if (factor is None) != (limit is None):
        return "a factor that nobody asked for, or none"
    if limit and not abs(float(factor) - min(1.0, limit / wanted)) <= 2 * eps:
        return f"the factor is {factor}, not {min(1.0, limit / wanted)}"
    return ""


@pytest.fixture(autouse=True)
def _backend(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_float64(kind, dtype):
    for seed in SEEDS:
        for shape in SHAPES:
            assert not fault(kind, shape, dtype, seed), (shape, seed)
    assert not fault(kind, (3, 7, 41), dtype, 2, on_gpu=True)


@pytest.mark.parametrize("kind", KINDS)
def test_no_numbers_are_nothing_to_launch(kind):
    assert stepped(kind, *arrays((0, 3), "float32"), False)[0].shape == (0, 3)
    assert _cuda.backend.launches == 0


@pytest.mark.parametrize("kind", KINDS)
def test_any_grid_is_enough(kind, monkeypatch):
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 2)
    assert not fault(kind, (257, 5), "float32", 0)


def test_corrections_of_what_lies_on_the_gpu():
    assert not corrections_fault()


@pytest.mark.parametrize("dtypes", [*((d,) for d in DTYPES), ("float16", "float32"), ("bfloat16", "float64")])
def test_norms(dtypes):
    for limit in (None, 1.0, 1e3):
        assert not norm_fault(dtypes, limit)
    bits = set()
    for seed in SEEDS:
        _cuda.backend = Emulator(seed)
        given = [np.linspace(-1, 1, 9001).astype("f4"), np.ones(3, "f4")]
        bits.add(b"".join(a.tobytes() for a in optim_cuda.norm(optim._square.formula, given, 2.0)))
        assert _cuda.backend.launches == 3
    assert len(bits) == 1


def test_norms_that_are_not_finite_or_large():
    def of(*values, dtype="f4", limit=1.0):
        return tuple(map(float, optim_cuda.norm(optim._square.formula, [np.array([v], dtype) for v in values], limit)))

    assert np.isnan(of(1.0, np.nan)).all()
    assert of(np.inf, 1.0) == (math.inf, 0.0)
    assert of(1e30, 1.0) == (math.inf, 0.0)  # the square is too large for float32, as on the CPU
    assert of(200.0, 200.0, dtype="f2") == (282.75, float(np.float16(1 / 80000**0.5)))  # float16 ends at 65504
    assert of(0.0, 0.0) == (0.0, 1.0)


def trained(to, optimizer, dtype, *, clip=1.0, steps=4, count=int):
    """Parameters and state after some steps."""
    rng = np.random.default_rng(1)
    params = {"w": rng.standard_normal((4, 9)).astype(dtype), "b": rng.standard_normal(5).astype(dtype)}
    p = {k: to(a) for k, a in params.items()}
    state = optimizer.init(p)
    for step in range(steps):
        grads = {k: to(rng.standard_normal(a.shape).astype(dtype)) for k, a in params.items()}
        clipped, _ = clip_by_global_norm(grads, clip)
        p, state = optimizer.update(clipped, state, p, count(step))
    return list(leaves((p, state)))


OPTIMIZERS = {
    "adamw": lambda: adamw(lambda step: 0.01 / (step + 1), decay=0.1),
    "adam": lambda: adam(warmup_cosine(0.05, 4, warmup=2)),
    "sgd": lambda: sgd(0.1),
    "nesterov": lambda: sgd(step_decay(0.1, 2), 0.9, nesterov=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_on_cupy_follow_the_cpu_and_read_nothing(name, dtype):
    host, got = trained(np.asarray, OPTIMIZERS[name](), dtype), []
    for seed in SEEDS:
        for on_gpu in (False, True):
            with stand_in(seed) as cupy:
                before = ndarray.readings
                after = trained(cupy.asarray, OPTIMIZERS[name](), dtype, count=cupy.asarray if on_gpu else int)
                assert ndarray.readings == before
                launched = [program.name for program in _cuda.backend.programs]
                assert launched.count("adam_moved" if "adam" in name else "sgd_moved") == 8
                assert launched.count("norm_of") == 4
                assert launched.count("adam_corrections") == 4 * (on_gpu and "adam" in name)
                got.append([a.get() for a in after])
    for wanted, *each in zip(host, *got, strict=True):
        eps = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(each[0], wanted, rtol=eps, atol=eps)
        assert len({a.tobytes() for a in each[::2]}) == len({a.tobytes() for a in each[1::2]}) == 1
        # On the emulator powers and cosines are the host's, or nearly.
        np.testing.assert_allclose(each[1], each[0], rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


SCHEDULES = (step_decay(0.1, 3), warmup_cosine(0.1, 12, warmup=4, final=0.01), warmup_cosine(0.1, 5, warmup=0))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_schedules_of_a_step_on_the_gpu(schedule, dtype):
    with stand_in() as cupy:
        for step in range(15):
            before = ndarray.readings
            rate = schedule(cupy.asarray(np.array(step, dtype)))
            assert ndarray.readings == before
            assert rate.dtype == np.float64
            assert rate.shape == ()
            assert float(rate) == pytest.approx(schedule(step), rel=1e-14, abs=1e-16)


@pytest.mark.parametrize("make", [sgd, adam])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rate_may_lie_on_the_gpu(make, dtype):
    with stand_in() as cupy:
        number = np.dtype(dtype).type(0.1)
        rate, wanted = cupy.asarray(number), trained(cupy.asarray, make(float(number)), "float32")
        for given in (rate, lambda step: rate):
            for count in (int, np.int64, cupy.asarray):
                found = trained(cupy.asarray, make(given), "float32", count=count)
                for a, b in zip(found, wanted, strict=True):
                    np.testing.assert_allclose(a.get(), b.get(), rtol=1e-6, atol=1e-7)


def test_refusals():
    with stand_in() as cupy:
        step, p = cupy.asarray(3), {"w": cupy.asarray(np.ones(2, "f4"))}
        for optimizer in (sgd(step_decay(0.1, 2)), adam(0.1)):
            with pytest.raises(TypeError, match="must come from one library"):
                optimizer.update(host := {"w": np.ones(2)}, optimizer.init(host), host, step)
            with pytest.raises(TypeError, match=r"step has dtype float64; needed an integer dtype"):
                optimizer.update(p, optimizer.init(p), p, cupy.asarray(3.0))
            with pytest.raises(ValueError, match=r"step has shape \(1,\); needed an integer"):
                optimizer.update(p, optimizer.init(p), p, cupy.asarray([3]))
            wide = {"w": cupy.asarray(np.ones(2))}
            with pytest.raises(TypeError, match=r"lies on a GPU; needed .* in one dtype .* got float32, float64"):
                optimizer.update(wide, optimizer.init(p), p, step)
        for odd in (lambda step: None, lambda step: [0.1], lambda step: cupy.asarray([0.1]), lambda step: step > 1):
            with pytest.raises(TypeError, match=r"the learning rate is .*; needed a number, or an array of CuPy without axes"):
                sgd(odd).update(p, {}, p, step)
    assert global_norm({"w": np.ones(4)}) == 2.0


FAULTS = {
    "one number past the end": ("i < c.n", "i <= c.n"),
    "the last number left out": ("i < c.n", "i < c.n - 1"),
    "a grid that does not walk on": ("i += threads()", "i += 1LL << 60"),
    "floor under the root": ("root(v) + floor", "root(v + floor)"),
    "weights grow": ("- shrink * at", "+ shrink * at"),
    "the old mean": ("scale * (m /", "scale * (widened(mean[i]) /"),
    "shares swapped": ("new2 = 1 - c.b2", "new2 = 1 - c.b1"),
    "fields in another order": ("scale, floor, rate, b1, b2, decay;", "floor, scale, rate, b1, b2, decay;"),
    "corrections in another order": ("corrections[0] : c.scale", "corrections[1] : c.scale"),
    "the rate of the host": ("rate ? *rate : c.rate, momentum", "c.rate, momentum"),
    "the old velocity": ("slope + momentum * v", "slope + momentum * widened(velocity[i])"),
    "always Nesterov": ("c.nesterov ? slope", "true ? slope"),
    "steps from 1": (": c.step) + 1)", ": c.step))"),
    "a power of float": ("pow(c.b2, t)", "powf(c.b2, t)"),
    "the partial sums of one thread": ("j += blockDim.x) sum", "j += 1 << 30) sum"),
    "one partial sum past the end": ("j < c.n;", "j <= c.n;"),
    "gradients that grow": ("length <= c.limit ? 1 : ", ""),
}


def run_every_case(path):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    optim_cuda.SOURCE, _cuda.MOST_BLOCKS = Path(path), 2
    optim_cuda._CORRECTIONS = optim_cuda._CORRECTIONS._replace(source=Path(path))
    found = [fault(kind, shape, "float32", 0, on_gpu) for kind in KINDS for shape in SHAPES for on_gpu in (False, True)]
    _cuda.MOST_BLOCKS = 1 << 20
    long = [np.ones(4096 * 300, "f4")]
    found += [corrections_fault(), norm_fault(("float32",), 1.0), norm_fault(("float32",), 1e3)]
    found += ["a long norm"] * (abs(float(optim_cuda.norm(optim._square.formula, long, None)[0]) - 4096**0.5 * 300**0.5) > 1e-2)
    if any(found):
        sys.exit(f"caught: {next(filter(None, found))}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, optim_cuda.SOURCE.read_text(), FAULTS.get(planted))
