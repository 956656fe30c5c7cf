"""Memory kept for results: never under two arrays at once, and given back when it is not used."""

import gc
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv._memory import Pool, empty
from numconv._tree import named_leaves
from numconv.train import adam, build, fit

LARGE = (300, 300)  # numbers of float32: more than the least that is kept


def place(a):
    return a.__array_interface__["data"][0]


def test_memory_of_a_result_nobody_holds_is_used_again():
    with Pool():
        first = place(empty(LARGE, np.float32))
        assert place(empty(LARGE, np.float32)) == first
        assert place(empty((90000,), "float32")) == first
    assert empty(LARGE, np.float32).base is None


@pytest.mark.parametrize(
    "held",
    [
        lambda a: a,
        lambda a: a[3:5, ::2],
        lambda a: a.reshape(-1)[7:].view(np.int32).T,
        lambda a: memoryview(a),
        lambda a: np.from_dlpack(a),
        lambda a: np.broadcast_to(a[0], (5, 300)),
        lambda a: lambda: a,
        lambda a: {"deep": (a[0],)},
    ],
)
def test_memory_that_is_held_in_any_way_is_not(held):
    with Pool():
        a = empty(LARGE, np.float32)
        where, kept = place(a), held(a)
        del a
        gc.collect()
        assert place(empty(LARGE, np.float32)) != where
        del kept
        gc.collect()
        assert place(empty(LARGE, np.float32)) == where


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([(300, 300), (70000,), (2, 3, 20000), (5,)])), max_size=30))
def test_arrays_that_live_never_overlap(steps):
    pool, alive = Pool(), {}
    for number, (slot, shape) in enumerate(steps):
        with pool:
            a = empty(shape, np.float32)
        a[...] = number
        alive[slot] = (a, number)
        del a
        assert all((array == value).all() for array, value in alive.values())


def test_what_a_block_did_not_use_is_given_back():
    pool = Pool()
    with pool:
        empty(LARGE, np.float32)
        held = empty((400, 400), np.float32)
    with pool:
        pass
    assert {size: len(memories) for size, memories in pool._kept.items()} == {360000: 0, 640000: 1}
    del held


def test_a_pool_is_for_one_thread_and_blocks_nest():
    found = []
    with Pool() as outer:
        empty(LARGE, np.float32)
        thread = threading.Thread(target=lambda: found.append(empty(LARGE, np.float32).base))
        thread.start()
        thread.join()
        with Pool():
            assert place(empty(LARGE, np.float32)) != place(outer._kept[360000][0])
        assert place(empty(LARGE, np.float32)) == place(outer._kept[360000][0])
    assert found == [None]


def test_steps_of_training_stay_what_they_were():
    """Parameters, states and terms of all steps, kept and compared with those of a run whose steps are copied at once."""
    x = np.random.default_rng(0).random((256, 1, 28, 28), np.float32)
    model = build({"kind": "autoencoder", "shape": (1, 28, 28), "latent": 4})
    params = model.init(np.random.default_rng(0), (1, 28, 28))

    def leaves(tree):
        return [a for _, a in named_leaves(tree)]

    run = lambda: fit(model, params, x, optimizer=adam(1e-2), epochs=2, batch_size=64)  # noqa: E731
    kept = [leaves((step.params, step.state)) for step in run()]
    copied = [[a.copy() for a in leaves((step.params, step.state))] for step in run()]
    for one, other in zip(kept, copied, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
