"""Every loss against central differences, and in every dtype and library: one table of cases for all."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from numconv import loss
from numconv._pointwise import pointwise
from numconv.loss import _value, classification, contrastive, pairs, regression

EPS = float(np.finfo(np.float64).eps)
WORDS = ("mean", "sum", "none", "batchmean")


def off_kinks(rng, shape, kinks):
    """Normal numbers at least 0.05 away from the kinks, which differences of step 1e-3 must not straddle."""
    d = rng.standard_normal(shape)
    for kink in kinks:
        d = np.where(np.abs(d - kink) < 0.05, kink + 0.1, d)
    return d


def difference(rng, *kinks):
    target = rng.standard_normal((3, 4, 2))
    return {"prediction": target + off_kinks(rng, (3, 4, 2), kinks), "target": target}


def gaussian(rng, *names):
    return {name: rng.standard_normal((4, 3)) for name in names}


def towers(rng, *names):
    return {name: rng.standard_normal((5, 4)) * rng.uniform(0.3, 3.0, (5, 1)) for name in names}


def labelled(*values):
    return np.array(values)


# name -> (function beside its vjp by name, differentiable arguments, the other arguments)
def cases(rng):
    table = {}
    for word in WORDS:
        r = {"reduction": word}
        table |= {
            f"mse-{word}": ("mse_loss", difference(rng), r),
            f"l1-{word}": ("l1_loss", difference(rng, 0.0), r),
            f"huber-{word}": ("huber_loss", difference(rng, -0.7, 0.7), {"delta": 0.7, **r}),
            f"bce-{word}": (
                "bce_with_logits_loss",
                {"logits": 3 * off_kinks(rng, (3, 4), [0.0]), "target": rng.uniform(0, 1, (3, 4))},
                r,
            ),
            f"cross-entropy-{word}": (
                "cross_entropy_loss",
                {"logits": 2 * rng.standard_normal((3, 5, 2))},
                {"labels": rng.integers(0, 5, (3, 2)), "label_smoothing": 0.1 * (word != "sum"), **r},
            ),
            f"nll-{word}": ("gaussian_nll_loss", gaussian(rng, "mean", "target", "logvar"), r),
            f"kl-{word}": ("gaussian_kl_loss", gaussian(rng, "mean", "logvar"), r),
            f"pairs-{word}": (
                "contrastive_loss",
                towers(rng, "za", "zb"),
                {"same": labelled(1, 0, 1, 0, 0), "temperature": 0.5, "threshold": 0.3, **r},
            ),
            f"triplet-{word}": ("triplet_loss", towers(rng, "anchor", "positive", "negative"), {"margin": 0.75, **r}),
        }
    for shape in [(), (1,), (4, 1), (1, 3)]:
        arrays = gaussian(rng, "mean", "target") | {"logvar": rng.standard_normal(shape)}
        table[f"nll-logvar-{shape}"] = ("gaussian_nll_loss", arrays, {})
    table["nll-scalars"] = (
        "gaussian_nll_loss",
        {k: rng.standard_normal(()) for k in ("mean", "target", "logvar")},
        {"reduction": "sum"},
    )
    table["reparameterize"] = ("reparameterize", gaussian(rng, "mean", "logvar", "noise"), {})
    table["info-nce"] = ("info_nce_loss", towers(rng, "za", "zb"), {"temperature": 0.4})
    table["info-nce-symmetric"] = ("info_nce_loss", towers(rng, "za", "zb"), {"temperature": 0.4, "symmetric": True})
    table["nt-xent"] = ("nt_xent_loss", towers(rng, "za", "zb"), {"temperature": 0.4})
    table["supcon"] = ("supcon_loss", towers(rng, "z"), {"labels": labelled(3, -1, 3, 3, -1), "temperature": 0.4})
    table["supcon-skips"] = ("supcon_loss", towers(rng, "z"), {"labels": labelled(3, 1, 3, 2, 0), "temperature": 0.4})
    return table


CASES = cases(np.random.default_rng(7))
named = pytest.mark.parametrize("name", list(CASES))


def called(name, convert=lambda a: a, vjp=True):
    function, arrays, others = CASES[name]
    others = {k: convert(v) if isinstance(v, np.ndarray) else v for k, v in others.items()}
    return getattr(loss, function + "_vjp" * vjp)(**{k: convert(a) for k, a in arrays.items()}, **others)


def derivative(f, x, v):
    """Derivative of f at x along v by the five-point rule, and a bound on its error.

    The rule is off by C h^4, so the rule of twice the step by 16 C h^4: their difference bounds the truncation. Each value
    carries rounding of some eps times its size, and there are 18/12 of them over h.
    """

    def rule(h):
        near, far = f(x + h * v) - f(x - h * v), f(x + 2 * h * v) - f(x - 2 * h * v)
        return (8 * near - far) / (12 * h)

    h = 1e-3
    d = rule(h)
    return d, np.abs(rule(2 * h) - d) + 50 * EPS * (1 + np.abs(f(x))) / h


def check_gradient(name):
    rng = np.random.default_rng(11)
    function, arrays, others = CASES[name]
    f = getattr(loss, function)
    y, pullback = called(name)
    dy = rng.standard_normal(np.shape(y))
    gradients = pullback(np.asarray(dy))
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert len(gradients) == len(arrays)
    for (argument, x), gradient in zip(arrays.items(), gradients, strict=True):
        assert gradient.shape == x.shape
        for _ in range(3):
            v = rng.standard_normal(x.shape)
            d, bound = derivative(lambda a, argument=argument: f(**{**arrays, argument: a}, **others), x, v)
            bound = np.sum(np.abs(dy) * bound)
            assert bound < 1e-6 * (1 + np.abs(np.sum(dy * d))), "the differences are too coarse to say anything"
            assert np.sum(gradient * v) == pytest.approx(np.sum(dy * d), rel=0, abs=bound), argument


@named
def test_gradient_is_the_derivative(name):
    check_gradient(name)


@named
def test_f_is_the_value_of_f_vjp(name):
    assert np.array_equal(called(name, vjp=False), called(name)[0])


@named
def test_pullback_is_linear_and_wrt_picks(name):
    y, pullback = called(name)
    dy = np.random.default_rng(5).standard_normal(np.shape(y))
    names = tuple(CASES[name][1])
    once, twice = pullback(dy, wrt=names), pullback(2 * dy, wrt=names)
    for argument, a, b in zip(names, once, twice, strict=True):
        assert np.array_equal(2 * a, b)  # a power of two commutes with rounding
        assert np.array_equal(pullback(dy, wrt=argument), a)
    assert np.array_equal(pullback(dy) if len(names) == 1 else pullback(dy)[0], once[0])


@named
def test_arguments_are_only_read(name):
    def frozen(a):
        a = np.array(a)
        a.setflags(write=False)
        return a

    y, pullback = called(name, frozen)
    dy = frozen(np.ones(np.shape(y)))
    gradients = pullback(dy)
    for gradient in gradients if isinstance(gradients, tuple) else (gradients,):
        assert not np.shares_memory(gradient, dy)


def compare(name, eps, convert, back, dtype, module):
    """Hold value and gradients to those of float64.

    Inputs are rounded once, each operation once, and at T = 0.4 a logit's error is amplified by 2.5 and by norms down to 0.3:
    16 eps of the largest number around covers that chain (3 are seen).
    """
    y64, pull64 = called(name)
    y, pullback = called(name, convert)
    dy = np.random.default_rng(3).standard_normal(np.shape(y64))
    got, expected = pullback(convert(np.asarray(dy))), pull64(dy)
    got, expected = (g if isinstance(g, tuple) else (g,) for g in (got, expected))
    for g, e in zip((y, *got), (y64, *expected), strict=True):
        assert g.dtype == dtype
        assert type(g).__module__.partition(".")[0] == module
        assert tuple(g.shape) == np.shape(e)
        scale = max(1.0, float(np.max(np.abs(e))))
        np.testing.assert_allclose(back(g).astype(np.float64), e, rtol=0, atol=16 * eps * scale)


def cast(dtype, to=lambda a: a):
    return lambda a: to(a.astype(dtype) if a.dtype.kind == "f" else a)


@named
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_dtypes_come_back_narrow(name, dtype):
    # float32 in a float16 suit: the only half roundings are those of the arguments and of the answer
    compare(name, float(np.finfo(dtype).eps), cast(dtype), np.asarray, dtype, "numpy")


@named
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_strict_arrays_come_back_strict(name, dtype):
    def back(a):
        return np.asarray(a._array)

    xp = array_api_strict
    compare(name, float(np.finfo(dtype).eps), cast(dtype, xp.asarray), back, getattr(xp, dtype), "array_api_strict")


@named
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_tensors_come_back_tensors(name, dtype):
    torch = pytest.importorskip("torch")
    compare(
        name,
        float(np.finfo(dtype).eps),
        cast(dtype, lambda a: torch.from_numpy(np.array(a))),
        lambda t: t.numpy(),
        getattr(torch, dtype),
        "torch",
    )


def test_bfloat16_comes_back_bfloat16():
    torch = pytest.importorskip("torch")
    z = torch.eye(4, dtype=torch.bfloat16)
    value, pullback = loss.nt_xent_loss_vjp(z, z, 0.01)
    dza, dzb = pullback()
    assert value.dtype == dza.dtype == dzb.dtype == torch.bfloat16
    assert bool(torch.isfinite(dza).all())


def wrong(f, factor=1.001):
    return lambda *args: f(*args) * factor


def without_projection(xp, z):
    unit, _ = FAULTLESS["normalised"](xp, z)
    return unit, lambda d: d / xp.sqrt(xp.sum(z * z, axis=1, keepdims=True))


def unscaled(xp, z):
    unit, pull = FAULTLESS["normalised"](xp, z)
    return unit, lambda d: pull(d) * xp.sqrt(xp.sum(z * z, axis=1, keepdims=True))


def one_sided(name):
    def fault(xp, logits, chosen):
        value, slope = FAULTLESS[name](xp, logits, chosen)
        return value, lambda: xp.tril(slope())

    return fault


FAULTLESS = {name: getattr(contrastive, name) for name in ("normalised", "_picked", "_of_label")}


@pytest.mark.parametrize(
    ("module", "attribute", "fault", "name"),
    [
        (_value.Reduction, "share", wrong(_value.Reduction.share), "mse-none"),
        (_value.Reduction, "share", wrong(_value.Reduction.share), "kl-batchmean"),
        (_value.Reduction, "share", lambda self, dy: dy, "bce-mean"),
        (classification, "bernoulli_slope", pointwise(wrong(classification.bernoulli_slope)), "bce-sum"),
        (pairs, "bernoulli_slope", wrong(pairs.bernoulli_slope), "pairs-none"),
        (pairs, "normalised", without_projection, "triplet-sum"),
        (contrastive, "normalised", without_projection, "info-nce"),
        (contrastive, "normalised", unscaled, "nt-xent"),
        (contrastive, "_picked", one_sided("_picked"), "supcon"),
        (contrastive, "_of_label", one_sided("_of_label"), "info-nce-symmetric"),
    ],
)
def test_a_planted_fault_is_caught(monkeypatch, module, attribute, fault, name):
    check_gradient(name)
    monkeypatch.setattr(module, attribute, fault)
    with pytest.raises(AssertionError, match="comparison failed"):
        check_gradient(name)


@pytest.mark.parametrize(
    ("module", "attribute", "name", "forward", "both"),
    [
        (pairs, "bernoulli_slope", "pairs-mean", 0, 1),
        (contrastive, "normalised", "nt-xent", 1, 1),
        (regression, "answer", "mse-mean", 1, 1),
    ],
)
def test_gradients_share_their_work(monkeypatch, module, attribute, name, forward, both):
    calls = []
    original = getattr(module, attribute)
    monkeypatch.setattr(module, attribute, lambda *a, **k: calls.append(1) or original(*a, **k))
    _, pullback = called(name)
    assert len(calls) == forward
    pullback()
    pullback(wrt=next(iter(CASES[name][1])))
    assert len(calls) == both
