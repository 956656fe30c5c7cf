"""Training on CuPy arrays, on the stand-in: what the CPU computes, and nothing read by the host from step to step."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from numconv import train
from numconv._tree import leaves
from numconv.cli import main

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

KINDS = {
    "autoencoder": {"latent": 3},
    "vae": {"latent": 3},
    "classifier": {"classes": 3},
    "contrastive": {"latent": 3},
}
SHAPE, IMAGES, BATCH = (1, 8, 8), 12, 4


def data():
    rng = np.random.default_rng(0)
    return rng.random((IMAGES, *SHAPE), np.float32), rng.integers(0, 3, IMAGES)


def model_of(kind):
    model = train.build({"kind": kind, "shape": SHAPE, **KINDS[kind]})
    return model, model.init(np.random.default_rng(0), SHAPE)


def steps(kind, x, y, params, model, epochs=2, **how):
    labels = y if kind == "classifier" else None
    return train.fit(model, params, x, labels, optimizer=train.adamw(1e-2), epochs=epochs, batch_size=BATCH, **how)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_training_as_on_the_cpu(kind):
    x, y = data()
    model, params = model_of(kind)
    expected = list(steps(kind, x, y, params, model, clip=1.0))
    with stand_in() as cupy:
        on_device = cupy.asarray(x)
        found = list(steps(kind, on_device, cupy.asarray(y), train.place(params, on_device), model, clip=1.0))
        weights = [a.get() for a in leaves(found[-1].params)]
    assert len(found) == len(expected) == 6
    for got, wanted in zip(found, expected, strict=True):
        assert list(got.terms) == list(wanted.terms)
        assert (got.number, got.epoch, got.ends_epoch) == (wanted.number, wanted.epoch, wanted.ends_epoch)
        assert dict(got.terms) == pytest.approx(wanted.terms, rel=1e-3, abs=1e-5)
    for got, wanted in zip(weights, leaves(expected[-1].params), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-3)  # Adam's first steps are as long for the smallest gradients


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_read_or_sent_from_step_to_step(kind):
    x, y = data()
    model, params = model_of(kind)
    with stand_in() as cupy:
        on_device, labels = cupy.asarray(x), cupy.asarray(y)
        params = train.place(params, on_device)
        readings, sent = [ndarray.readings], [ndarray.sent]
        for step in steps(kind, on_device, labels, params, model, clip=1.0):
            readings.append(ndarray.readings)
            sent.append(ndarray.sent)
            if step.ends_epoch:
                assert math.isfinite(step.terms["loss"])
    assert np.diff(readings).tolist() == [0, 0, 1, 0, 0, 1]  # at the end of each epoch, for all of its terms
    assert np.diff(sent).tolist() == [1, 0, 0, 1, 0, 0]  # the order of an epoch's samples


def test_terms_are_read_at_the_first_look():
    x, y = data()
    model, params = model_of("autoencoder")
    with stand_in() as cupy:
        on_device = cupy.asarray(x)
        step = next(steps("autoencoder", on_device, y, train.place(params, on_device), model))
        before = ndarray.readings
        assert repr(step.terms) == "Terms(not read yet)"
        assert sorted(step.terms) == ["gradient_norm", "loss", "mse"]
        assert ndarray.readings == before
        assert step.terms["loss"] == step.terms["mse"]
        assert ndarray.readings == before + 1


def test_numbers_that_are_not_finite_are_refused_at_the_end_of_the_epoch():
    x, y = data()
    x[5] = np.nan
    model, params = model_of("autoencoder")
    with stand_in() as cupy:
        on_device = cupy.asarray(x)
        with pytest.raises(
            FloatingPointError, match=r"step \d \(epoch 0\): loss is nan; seen at step 3, as steps on a GPU are not"
        ):
            list(steps("autoencoder", on_device, y, train.place(params, on_device), model))


def test_a_label_that_is_no_class():
    x, y = data()
    y[3] = 7
    model, params = model_of("classifier")
    with stand_in() as cupy:
        on_device = cupy.asarray(x)
        with pytest.raises(FloatingPointError, match=r"loss is nan"):
            list(steps("classifier", on_device, cupy.asarray(y), train.place(params, on_device), model))


def test_a_checkpoint_of_the_device_is_one_of_the_host(tmp_path):
    x, y = data()
    model, params = model_of("autoencoder")
    with stand_in() as cupy:
        on_device = cupy.asarray(x)
        last = list(steps("autoencoder", on_device, y, train.place(params, on_device), model, epochs=1))[-1]
        train.save_checkpoint(tmp_path / "a.safetensors", last)
        weights = [a.get() for a in leaves(last.params)]
        again = train.load_checkpoint(tmp_path / "a.safetensors", last.params, last.state)
        assert all(isinstance(a, ndarray) for a in leaves(again.params))
    state = train.adamw(1e-2).init(params)
    host = train.load_checkpoint(tmp_path / "a.safetensors", params, state)
    assert all(type(a) is np.ndarray for a in leaves(host.params))
    for got, wanted in zip(leaves(host.params), weights, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_line(kind, tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", x=rng.random((24, 8, 7)).astype(np.float32), y=np.arange(24) % 2)
    small = ["--epochs", "1", "--channels", "2", "--latent", "3", "--batch", "6"]
    for device in ("cpu", "cuda"):
        folder = ["--device", device, "--out", str(tmp_path / device)]
        with stand_in():
            assert main(["train", kind, "--data", str(tmp_path / "images.npz"), *small, *folder]) == 0, capsys.readouterr().err
    cpu, cuda = (json.loads((tmp_path / device / "metrics.json").read_text()) for device in ("cpu", "cuda"))
    assert cuda["machine"]["device"] == "cuda"
    assert cuda["history"][0]["loss"] == pytest.approx(cpu["history"][0]["loss"], rel=1e-3)
    assert (tmp_path / "cuda" / "report.html").is_file()
