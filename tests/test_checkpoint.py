"""Checkpoints: the same bytes back, and a clear no to files that are damaged, foreign, or of another model."""

import json
import re
import sys

import numpy as np
import pytest

from numconv._tree import named_leaves, tree_map
from numconv.train import Step, load_checkpoint, load_params, save_checkpoint

safetensors_numpy = pytest.importorskip("safetensors.numpy")


def step_of(seed=0):
    rng = np.random.default_rng(seed)
    params = {
        "encoder": ({"w": rng.standard_normal((3, 1, 2, 2), np.float32), "b": rng.standard_normal(3, np.float32)}, ()),
        "decoder": ({"w": rng.standard_normal((4, 5))},),
    }
    state = {"mean": tree_map(lambda a: a / 3, params), "square": tree_map(lambda a: a * a, params)}
    return Step(17, 2, {"loss": 0.1 + 0.2, "mse": 1e-300}, params, state, ends_epoch=True)


def zeros(tree):
    return tree_map(np.zeros_like, tree)


def assert_same(a, b):
    one, two = dict(named_leaves(a)), dict(named_leaves(b))
    assert list(one) == list(two)
    for name, value in one.items():
        assert value.dtype == two[name].dtype
        assert value.tobytes() == two[name].tobytes(), name


def test_a_step_comes_back_to_the_last_bit(tmp_path):
    step = step_of()
    save_checkpoint(tmp_path / "model.safetensors", step)
    back = load_checkpoint(tmp_path / "model.safetensors", zeros(step.params), zeros(step.state))
    assert back[:3] == step[:3]
    assert back.ends_epoch is True
    assert_same(back.params, step.params)
    assert_same(back.state, step.state)
    assert_same(load_params(tmp_path / "model.safetensors", zeros(step.params)), step.params)


def test_others_can_read_the_file_by_names(tmp_path):
    step = step_of()
    save_checkpoint(tmp_path / "a.safetensors", step)
    read = safetensors_numpy.load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read["encoder.0.w"], step.params["encoder"][0]["w"])
    np.testing.assert_array_equal(read["optimizer.mean.decoder.0.w"], step.state["mean"]["decoder"][0]["w"])
    header = (tmp_path / "a.safetensors").read_bytes()
    size = int.from_bytes(header[:8], "little")
    assert json.loads(json.loads(header[8 : 8 + size])["__metadata__"]["numconv 1"])["number"] == 17


def test_views_and_fortran_order_are_saved_as_what_they_show(tmp_path):
    a = np.arange(24.0).reshape(4, 6)
    params = {"t": a.T, "s": a[::2, ::3], "r": a[::-1]}
    save_checkpoint(tmp_path / "v.safetensors", Step(1, 0, {}, params, {}))
    assert_same(load_params(tmp_path / "v.safetensors", zeros(params)), params)


def test_an_optimiser_without_state_needs_none(tmp_path):
    step = step_of()._replace(state={})
    save_checkpoint(tmp_path / "m.safetensors", step)
    assert load_checkpoint(tmp_path / "m.safetensors", zeros(step.params), {}).state == {}


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_truncated_files_are_refused(tmp_path, keep):
    path = tmp_path / "m.safetensors"
    step = step_of()
    save_checkpoint(path, step)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    for call in (lambda: load_checkpoint(path, step.params, step.state), lambda: load_params(path, step.params)):
        with pytest.raises(ValueError, match=r"m\.safetensors is damaged or no safetensors file: "):
            call()


def test_a_pickle_is_not_read(tmp_path):
    path = tmp_path / "m.safetensors"
    np.save(tmp_path / "m.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    path.write_bytes((tmp_path / "m.npy").read_bytes())
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        load_params(path, step_of().params)


def with_leaf(params, **changes):
    return {**params, "decoder": ({**params["decoder"][0], **changes},)}


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (lambda p: with_leaf(p, w=np.zeros((4, 6))), "holds decoder.0.w of shape (4, 5); the model has (4, 6)"),
        (lambda p: with_leaf(p, w=np.zeros((4, 5), np.float32)), "holds decoder.0.w of dtype float64; the model has float32"),
        (lambda p: with_leaf(p, b=np.zeros(4)), "is of another model: it lacks decoder.0.b"),
        (lambda p: {"encoder": p["encoder"]}, "is of another model: it holds unknown decoder.0.w"),
        (lambda p: {**p, "decoder": ({"v": np.zeros(1)},)}, "it lacks decoder.0.v and holds unknown decoder.0.w"),
    ],
)
def test_files_of_other_models_are_refused_by_name(tmp_path, expected, text):
    step = step_of()
    save_checkpoint(tmp_path / "m.safetensors", step)
    with pytest.raises(ValueError, match=re.escape(text)):
        load_params(tmp_path / "m.safetensors", expected(step.params))
    with pytest.raises(ValueError, match=re.escape(text)):
        load_checkpoint(tmp_path / "m.safetensors", expected(step.params), step.state)


def test_the_state_of_another_optimiser_is_refused(tmp_path):
    step = step_of()
    save_checkpoint(tmp_path / "m.safetensors", step)
    with pytest.raises(ValueError, match=re.escape("it lacks optimizer.velocity.encoder.0.w")):
        load_checkpoint(tmp_path / "m.safetensors", step.params, {"velocity": step.params})


def test_weights_alone_are_no_checkpoint(tmp_path):
    step = step_of()._replace(state={})
    named = {name: np.ascontiguousarray(a) for name, a in named_leaves(step.params)}
    safetensors_numpy.save_file(named, tmp_path / "w.safetensors")
    assert_same(load_params(tmp_path / "w.safetensors", zeros(step.params)), step.params)
    with pytest.raises(ValueError, match=r"has metadata \[\]; needed 'numconv 1'"):
        load_checkpoint(tmp_path / "w.safetensors", step.params, {})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_params(tmp_path / "none.safetensors", {})


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, step_of())
    before = path.read_bytes()

    def breaks(tensors, filename, metadata):
        with open(filename, "wb") as file:
            file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(safetensors_numpy, "save_file", breaks)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, step_of(1))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=re.escape("checkpoints need safetensors: pip install 'numconv[train]'")):
        save_checkpoint(tmp_path / "m.safetensors", step_of())
