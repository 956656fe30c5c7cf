"""Training steps recorded as a CUDA graph, on the stand-in: launched again on the same memory, they are the steps that follow."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

from numconv import train
from numconv._tree import leaves, tree_map
from numconv.train.batch import take

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.stand_in import ndarray, stand_in
from .test_train_cuda import BATCH, IMAGES, KINDS, data, model_of

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

STEPS, CLIP = 6, 0.5
SCHEDULE = train.warmup_cosine(1e-2, STEPS, warmup=2)
OPTIMIZERS = {
    "adamw": lambda: train.adamw(SCHEDULE, decay=0.1),
    "adam": lambda: train.adam(1e-2),
    "nesterov": lambda: train.sgd(SCHEDULE, 0.9, nesterov=True),
    "sgd": lambda: train.sgd(train.step_decay(1e-2, 2)),
}


def eager(optimizer, params, every):
    """Parameters and state after steps that are numbers of the host."""
    state = optimizer.init(params)
    for number, grads in enumerate(every):
        clipped, _ = train.clip_by_global_norm(grads, CLIP)
        params, state = optimizer.update(clipped, state, params, number)
    return [a.get() for a in leaves((params, state))]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_optimiser_replayed(name, dtype):
    rng, optimizer = np.random.default_rng(0), OPTIMIZERS[name]()
    shapes = {"w": np.zeros((4, 9)), "b": np.zeros(5)}
    made = [tree_map(lambda a: rng.standard_normal(a.shape).astype(dtype), shapes) for _ in range(STEPS + 1)]
    with stand_in() as cupy:
        params, *every = (tree_map(cupy.asarray, tree) for tree in made)
        expected = eager(optimizer, params, every)
        grads, state, step = tree_map(cupy.zeros_like, params), optimizer.init(params), cupy.asarray(0)
        kept = list(leaves((params, state)))
        with (stream := cupy.cuda.Stream(non_blocking=True)):
            stream.begin_capture()
            clipped, norm = train.clip_by_global_norm(grads, CLIP)
            for old, new in zip(kept, leaves(optimizer.update(clipped, state, params, step)), strict=True):
                old[...] = new
            step += 1
            graph = stream.end_capture()
        assert int(step) == 0  # a captured step is recorded, not taken
        norms = []
        for following in every:
            for old, new in zip(leaves(grads), leaves(following), strict=True):
                old[...] = new
            graph.launch(stream)
            norms.append(float(norm))
        assert int(step) == STEPS
        assert norms == [float(train.global_norm(each)) for each in every]
        for got, wanted in zip(kept, expected, strict=True):
            # On the emulator powers and cosines are the host's, or nearly.
            np.testing.assert_allclose(got.get(), wanted, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_step_replayed(kind):
    (x, y), (model, made) = data(), model_of(kind)
    with stand_in() as cupy:
        x, y, optimizer = cupy.asarray(x), cupy.asarray(y) if kind == "classifier" else None, OPTIMIZERS["adamw"]()
        order = cupy.asarray(np.arange(STEPS * BATCH).reshape(STEPS, BATCH) * 5 % IMAGES)

        def stepping(count):
            """Return parameters, state and the loss, the indices of a batch, and a step that changes the former in place."""
            params = train.place(made, x)
            state, where, loss = optimizer.init(params), cupy.zeros(BATCH, np.int64), cupy.asarray(np.float32(0))
            kept, step = list(leaves((params, state))), cupy.asarray(0)

            def advance():
                now, _, pullback = model.loss(params, take(x, y, np.arange(BATCH), epoch=0, seed=0, where=where))
                grads, _ = train.clip_by_global_norm(pullback(), CLIP)
                for old, new in zip(kept, leaves(optimizer.update(grads, state, params, count(step))), strict=True):
                    old[...] = new
                loss[...] = now
                step[...] = step + 1

            return [*kept, loss], where, advance

        with (stream := cupy.cuda.Stream(non_blocking=True)):
            expected, where, advance = stepping(int)
            history = []
            for i in range(STEPS):
                where[...] = order[i, :]
                advance()
                history.append(float(expected[-1]))
            found, where, advance = stepping(lambda step: step)
            readings, sent = ndarray.readings, ndarray.sent
            stream.begin_capture()
            advance()
            graph = stream.end_capture()
            assert (ndarray.readings, ndarray.sent) == (readings, sent)
            for i in range(STEPS):
                where[...] = order[i, :]
                graph.launch(stream)
                assert float(found[-1]) == pytest.approx(history[i], rel=1e-5)
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(got.get(), wanted.get(), rtol=1e-5, atol=1e-6)
        assert len(set(history)) == STEPS


def test_the_example_of_the_documentation():
    text = (Path(__file__).parents[1] / "docs" / "cuda.md").read_text().partition("### A step as a CUDA graph")[2]
    example = textwrap.dedent(text.partition("```python\n")[2].partition("```")[0])
    (x, _), (model, made) = data(), model_of("vae")
    with stand_in() as cupy:
        x = cupy.asarray(x)
        order = [cupy.asarray((np.arange(BATCH) + i) % IMAGES) for i in range(STEPS)]
        known = {"model": model, "params": train.place(made, x), "x": x, "order": order, "batch_size": BATCH, "train": train}
        exec(example, known)
        assert int(known["done"]) == 1 + STEPS
        optimizer = train.adamw(train.warmup_cosine(1e-3, 10_000, warmup=500))
        params = train.place(made, x)
        state = optimizer.init(params)
        for number, index in enumerate([cupy.zeros(BATCH, np.int64), *order]):
            loss, _, pullback = model.loss(params, train.take(x, None, index, epoch=0, seed=0, where=index))
            grads, _ = train.clip_by_global_norm(pullback(), 1.0)
            params, state = optimizer.update(grads, state, params, number)
        assert float(known["loss"]) == pytest.approx(float(loss), rel=1e-5)
        for got, wanted in zip(leaves(known["params"]), leaves(params), strict=True):
            np.testing.assert_allclose(got.get(), wanted.get(), rtol=1e-5, atol=1e-6)


def test_what_a_capture_refuses():
    with stand_in() as cupy:
        a = cupy.asarray(np.ones(3))
        with pytest.raises(RuntimeError, match="cannot capture on the default"):
            cupy.cuda.Stream.null.begin_capture()
        with (stream := cupy.cuda.Stream()):
            stream.begin_capture()
            for forbidden in (a.get, lambda: float(a[0]), lambda: cupy.asarray(np.ones(2)), lambda: cupy.stack([a] * 9)):
                with pytest.raises(RuntimeError, match="the current stream is capturing"):
                    forbidden()
            assert cupy.asarray(2.0).shape == ()  # goes with the launch
            stream.end_capture()
