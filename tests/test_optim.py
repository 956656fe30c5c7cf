"""Optimisers against hand-computed steps and against torch.optim, schedules against tables, clipping against its definition."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import normals

import numconv
from numconv.train import (
    adam,
    adamw,
    clip_by_global_norm,
    constant,
    cosine,
    global_norm,
    sgd,
    step_decay,
    warmup_cosine,
)


def tree(rng):
    return {
        "a": ({"w": rng.standard_normal((3, 4)), "b": rng.standard_normal(3)}, ()),
        "c": {"w": rng.standard_normal((2, 2, 3))},
    }


def flat(tree):
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [tree] if isinstance(tree, np.ndarray) else [leaf for branch in tree for leaf in flat(branch)]


def mapped(f, tree):
    if isinstance(tree, dict):
        return {key: mapped(f, branch) for key, branch in tree.items()}
    return tuple(mapped(f, branch) for branch in tree) if isinstance(tree, tuple) else f(tree)


# name -> (ours from a rate, theirs from torch, parameters and a rate)
PAIRS = {
    "sgd": (lambda rate: sgd(rate), lambda t, p, r: t.optim.SGD(p, r)),
    "momentum": (lambda rate: sgd(rate, 0.9), lambda t, p, r: t.optim.SGD(p, r, momentum=0.9)),
    "nesterov": (lambda rate: sgd(rate, 0.8, nesterov=True), lambda t, p, r: t.optim.SGD(p, r, momentum=0.8, nesterov=True)),
    "adam": (lambda rate: adam(rate), lambda t, p, r: t.optim.Adam(p, r)),
    "adam, other constants": (
        lambda rate: adam(rate, betas=(0.5, 0.9), eps=1e-2),
        lambda t, p, r: t.optim.Adam(p, r, betas=(0.5, 0.9), eps=1e-2),
    ),
    "adamw": (
        lambda rate: adamw(rate, decay=0.1),
        lambda t, p, r: t.optim.AdamW(
            [
                {"params": [a for a in p if a.ndim > 1], "weight_decay": 0.1},
                {"params": [a for a in p if a.ndim <= 1], "weight_decay": 0.0},
            ],
            r,
        ),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("scheduled", [False, True])
def test_steps_are_those_of_torch(name, scheduled):
    torch = pytest.importorskip("torch")
    ours, theirs = PAIRS[name]
    rng = np.random.default_rng(0)
    params = tree(rng)
    rate = step_decay(0.05, every=3, factor=0.3) if scheduled else 0.05
    optimizer = ours(rate)
    state = optimizer.init(params)
    twins = [torch.tensor(leaf, requires_grad=True) for leaf in flat(params)]
    other = theirs(torch, twins, 0.05)
    for step in range(8):
        # Gradients of very different sizes, zeros among them: where m / sqrt(v) and eps matter.
        grads = mapped(lambda a: rng.integers(-1, 2, a.shape) * 10.0 ** rng.uniform(-6, 3, a.shape), params)
        for group in other.param_groups:
            group["lr"] = rate(step) if scheduled else rate
        for twin, g in zip(twins, flat(grads), strict=True):
            twin.grad = torch.tensor(g)
        other.step()
        params, state = optimizer.update(grads, state, params, step)
    for twin, leaf in zip(twins, flat(params), strict=True):
        np.testing.assert_allclose(leaf, twin.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_adam_by_hand():
    optimizer = adam(0.1, betas=(0.9, 0.99), eps=1e-8)
    params = {"w": np.array([1.0])}
    state = optimizer.init(params)
    m = v = 0.0
    w = 1.0
    for step, g in enumerate([2.0, -1.0, 0.5]):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        w -= 0.1 * (m / (1 - 0.9 ** (step + 1))) / (math.sqrt(v / (1 - 0.99 ** (step + 1))) + 1e-8)
        params, state = optimizer.update({"w": np.array([g])}, state, params, step)
        assert params["w"][0] == pytest.approx(w, rel=1e-14)


def test_the_first_step_of_adam_is_the_rate_whatever_the_gradient():
    optimizer = adam(0.1)
    params = {"w": np.zeros(3)}
    moved, _ = optimizer.update({"w": np.array([1e-4, -1.0, 1e6])}, optimizer.init(params), params, 0)
    np.testing.assert_allclose(moved["w"], [-0.1, 0.1, -0.1], rtol=1.1e-4)  # eps is 1e-4 of the smallest


def test_decay_shrinks_weights_and_not_biases():
    optimizer = adamw(0.5, decay=0.1)
    params = {"w": np.full((2, 2), 4.0), "b": np.full(2, 4.0)}
    still = mapped(np.zeros_like, params)
    moved, _ = optimizer.update(still, optimizer.init(params), params, 0)
    np.testing.assert_allclose(moved["w"], 4.0 * (1 - 0.5 * 0.1), rtol=1e-15)
    np.testing.assert_array_equal(moved["b"], 4.0)


@given(
    shape=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "float64"]),
    decay=st.sampled_from([0.0, 0.1]),
    step=st.integers(0, 10**6),
    turned=st.booleans(),
)
def test_the_kernel_of_adam_is_its_formula(shape, dtype, decay, step, turned):
    p, g, m, v = normals(7, *[shape] * 4, dtype=dtype)
    g = np.asfortranarray(g) if turned else g[::-1].copy()[::-1]
    params, state = {"w": p}, {"mean": {"w": m}, "square": {"w": v * v}}
    moved, after = adamw(1e-2, betas=(0.5, 0.9), eps=1e-3, decay=decay).update({"w": g}, state, params, step)
    p, g, m, v = (a.astype(np.float64) for a in (p, g, m, v))
    mean, square = 0.5 * m + 0.5 * g, 0.9 * (v * v) + 0.1 * (g * g)
    stepped = 1e-2 * mean / (1 - 0.5 ** (step + 1)) / (np.sqrt(square / (1 - 0.9 ** (step + 1))) + 1e-3)
    eps = np.finfo(dtype).eps
    expected = p - stepped - 1e-2 * decay * p * (p.ndim > 1)
    assert moved["w"].dtype == after["mean"]["w"].dtype == after["square"]["w"].dtype == dtype
    assert np.all(abs(after["mean"]["w"] - mean) <= 2 * eps * (abs(m) + abs(g)))
    assert np.all(abs(after["square"]["w"] - square) <= 4 * eps * square)
    assert np.all(abs(moved["w"] - expected) <= 8 * eps * (abs(p) + abs(stepped) + abs(m) + abs(g)))


def test_steps_have_the_same_bits_on_any_number_of_threads():
    params = {"w": normals(1, (300, 501), dtype=np.float32)[0]}
    grads, optimizer = {"w": params["w"][::-1] ** 3}, adam(0.1)
    several, _ = optimizer.update(grads, optimizer.init(params), params, 3)
    norm = global_norm(grads)
    with numconv.threads(1):
        one, _ = optimizer.update(grads, optimizer.init(params), params, 3)
        assert global_norm(grads) == norm
    assert one["w"].tobytes() == several["w"].tobytes()


@pytest.mark.parametrize("optimizer", [sgd(0.1), sgd(0.1, 0.9, nesterov=True), adam(0.1), adamw(0.1)])
def test_nothing_given_is_written_to_and_dtypes_stay(optimizer):
    params = mapped(lambda a: a.astype(np.float32), tree(np.random.default_rng(1)))
    grads = mapped(lambda a: a + np.float32(1), params)
    state = optimizer.init(params)
    for step in range(2):
        before = [a.copy() for part in (params, grads, state) for a in flat(part)]
        new_params, new_state = optimizer.update(grads, state, params, step)
        for kept, now in zip(before, [a for part in (params, grads, state) for a in flat(part)], strict=True):
            np.testing.assert_array_equal(kept, now)
        for a in (*flat(new_params), *flat(new_state)):
            assert a.dtype == np.float32
            assert not any(np.shares_memory(a, b) for part in (params, grads, state) for b in flat(part))
        params, state = new_params, new_state


def test_optimisers_work_on_other_libraries():
    xp = pytest.importorskip("array_api_strict")
    params = {"w": xp.asarray([[1.0, 2.0]]), "b": xp.asarray([3.0])}
    grads = {"w": xp.asarray([[1.0, -1.0]]), "b": xp.asarray([0.5])}
    for optimizer in (sgd(0.1, 0.9), adamw(0.1)):
        clipped, norm = clip_by_global_norm(grads, 1.0)
        assert float(norm) == 1.5
        moved, _ = optimizer.update(clipped, optimizer.init(params), params, 0)
        assert moved["w"].__array_namespace__().__name__ == xp.__name__


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    grads = tree(np.random.default_rng(2))
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in flat(grads)))
    assert float(global_norm(grads)) == pytest.approx(norm, rel=1e-14)
    clipped, before = clip_by_global_norm(grads, norm / 4)
    assert float(before) == pytest.approx(norm, rel=1e-14)
    for g, c in zip(flat(grads), flat(clipped), strict=True):
        np.testing.assert_allclose(c, g / 4, rtol=1e-14)
    same, _ = clip_by_global_norm(grads, norm * 1.01)
    for g, c in zip(flat(grads), flat(same), strict=True):
        np.testing.assert_array_equal(c, g)


def test_clipping_leaves_zeros_zero():
    clipped, norm = clip_by_global_norm({"w": np.zeros(3)}, 1.0)
    assert float(norm) == 0
    np.testing.assert_array_equal(clipped["w"], 0)


# schedule -> rate by step: the first, the end of warm-up, the last, beyond
TABLES = {
    "constant": (constant(0.3), {0: 0.3, 10**6: 0.3}),
    "step decay": (step_decay(1.0, every=10, factor=0.5), {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 0.25, 35: 0.125}),
    "cosine": (
        cosine(2.0, 5),
        {0: 2.0, 1: 1 + math.sqrt(0.5), 2: 1.0, 3: 1 - math.sqrt(0.5), 4: 0.0, 5: 0.0, 99: 0.0},
    ),
    "cosine to a floor": (cosine(1.0, 3, final=0.2), {0: 1.0, 1: 0.6, 2: 0.2, 3: 0.2}),
    "warm-up and cosine": (
        warmup_cosine(1.0, 8, warmup=3),
        {0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0, 5: 0.5, 7: 0.0, 8: 0.0, 1000: 0.0},
    ),
    "nothing but warm-up": (warmup_cosine(1.0, 3, warmup=2), {0: 1 / 3, 1: 2 / 3, 2: 1.0, 3: 0.0}),
    "a single step": (cosine(1.0, 1), {0: 1.0, 1: 0.0}),
}


@pytest.mark.parametrize("name", TABLES)
def test_schedules_against_tables(name):
    schedule, table = TABLES[name]
    for step, rate in table.items():
        assert schedule(step) == pytest.approx(rate, abs=1e-15), step


def test_no_schedule_is_zero_at_the_first_step():
    for warmup in (0, 1, 5, 99):
        assert warmup_cosine(1e-3, 100, warmup=warmup)(0) > 0


def test_rates_never_rise_after_the_warm_up_nor_fall_within_it():
    schedule = warmup_cosine(1.0, 50, warmup=7, final=0.1)
    rates = [schedule(step) for step in range(80)]
    assert all(a < b for a, b in pairwise(rates[:8]))
    assert all(a >= b for a, b in pairwise(rates[7:]))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: adam(-1.0), r"rate=-1.0; needed at least 0"),
        (lambda: adam(math.nan), r"rate=nan; needed at least 0"),
        (lambda: adam(1.0, betas=(0.9, 1.0)), r"betas\[1\]=1.0; needed at least 0 and below 1"),
        (lambda: adam(1.0, eps=0), r"eps=0; needed above 0"),
        (lambda: adamw(1.0, decay=-0.1), r"decay=-0.1; needed at least 0"),
        (lambda: sgd(1.0, 1.0), r"momentum=1.0; needed at least 0 and below 1"),
        (lambda: sgd(1.0, nesterov=True), r"nesterov=True with momentum=0"),
        (lambda: clip_by_global_norm({"w": np.ones(2)}, 0.0), r"limit=0.0; needed above 0"),
        (lambda: warmup_cosine(1.0, 5, warmup=5), r"warmup=5 of steps=5; needed fewer"),
        (lambda: cosine(1.0, 0), r"steps=0; needed at least 1"),
        (lambda: step_decay(1.0, 0), r"every=0; needed at least 1"),
    ],
)
def test_refusals(call, text):
    with pytest.raises(ValueError, match=text):
        call()
