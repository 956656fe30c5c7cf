"""The loop and the models: gradients against central differences, bytes against bytes, texts of refusals, and that they learn."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numconv import nn
from numconv._tree import leaves, named_leaves, tree_map
from numconv.train import (
    VAE,
    Autoencoder,
    Batch,
    Step,
    adam,
    build,
    complete,
    dense_counterpart,
    embed,
    fit,
    load_checkpoint,
    mean_terms,
    save_checkpoint,
    sgd,
    steps_per_epoch,
    training,
)
from numconv.train.networks import conv_decoder, conv_encoder, default_channels
from numconv.train.vae import _BOUND

SHAPE = (1, 6, 5)
SMALL = {"shape": SHAPE, "latent": 3, "channels": [4, 6]}
# name -> config
MODELS = {
    "autoencoder": {"kind": "autoencoder", **SMALL},
    "autoencoder, dense": {"kind": "autoencoder", **SMALL, "network": "dense"},
    "vae": {"kind": "vae", **SMALL},
    "vae, gaussian, beta 3": {"kind": "vae", **SMALL, "likelihood": "gaussian", "sigma": 0.5, "beta": 3.0},
    "vae, free bits, warm-up": {"kind": "vae", **SMALL, "free_bits": 0.4, "beta_warmup": 4},
    "contrastive, crops": {"kind": "contrastive", **SMALL, "projection": 4},
    "contrastive, labels": {"kind": "contrastive", **SMALL, "projection": 4, "positives": "labels"},
    "classifier": {"kind": "classifier", **SMALL, "classes": 3},
    "classifier, dense": {"kind": "classifier", **SMALL, "classes": 3, "network": "dense"},
}


def images(count, shape=SHAPE, seed=0, dtype=np.float32):
    """Smooth images in [0, 1], a few bumps each, and labels that say in which third the first bump is."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape[1:]), indexing="ij"))
    centre = rng.uniform(0.1, 0.9, (count, 2, len(shape) - 1) + (1,) * (len(shape) - 1))
    bumps = np.exp(-20 * np.sum((grid - centre) ** 2, axis=2)).max(axis=1)
    labels = np.minimum((3 * centre[:, 0, 0]).reshape(count).astype(np.int64), 2)
    return np.repeat(bumps[:, None], shape[0], axis=1).astype(dtype), labels


def made(config, shape=SHAPE, dtype=np.float32):
    model = build(config)
    return model, tree_map(lambda a: a.astype(dtype), model.init(np.random.default_rng(0), shape))


def batch_of(x, y, epoch=0, seed=0, index=None):
    return Batch(x, y, np.arange(len(x)) if index is None else index, epoch, seed)


def bytes_of(tree):
    return {name: np.asarray(a).tobytes() for name, a in named_leaves(tree)}


def inner(a, b):
    return sum(float(np.sum(x * y)) for x, y in zip(leaves(a), leaves(b), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_directional_derivatives(name):
    rng = np.random.default_rng(1)
    model, params = made(MODELS[name], dtype=np.float64)
    # Biases off zero and weights larger than at the start: no symmetry is left to hide an error.
    params = tree_map(lambda a: 1.5 * a + 0.1 * rng.standard_normal(a.shape), params)
    x, y = images(8, dtype=np.float64)
    batch = batch_of(x, y, epoch=2)
    loss, _, pullback = model.loss(params, batch)
    grads = pullback()
    assert [(n, a.shape, a.dtype) for n, a in named_leaves(grads)] == [(n, a.shape, a.dtype) for n, a in named_leaves(params)]
    for leaf, g in named_leaves(grads):
        assert np.any(g != 0), leaf
    for _ in range(3):
        direction = tree_map(lambda a: rng.standard_normal(a.shape), params)
        h = 1e-5
        above, below = (float(model.loss(tree_map(lambda a, d, s=s: a + s * d, params, direction), batch)[0]) for s in (h, -h))
        slope = inner(grads, direction)
        scale = abs(float(loss)) + math.sqrt(inner(grads, grads) * inner(direction, direction))
        # h**2 times third derivatives, and rounding over h: both about 1e-10 of the loss, kinks aside (there are none in SiLU).
        assert abs((above - below) / (2 * h) - slope) < 1e-7 * scale


# A contrastive loss depends on how many negatives there are, by its nature.
@pytest.mark.parametrize("name", [name for name in MODELS if "contrastive" not in name])
def test_the_loss_of_a_batch_twice_is_the_loss_of_the_batch(name):
    model, params = made(MODELS[name], dtype=np.float64)
    x, y = images(6, dtype=np.float64)
    once, terms, _ = model.loss(params, batch_of(x, y))
    index = np.concatenate([np.arange(6)] * 2)
    twice, twice_terms, _ = model.loss(params, batch_of(np.concatenate([x, x]), np.concatenate([y, y]), index=index))
    assert float(twice) == pytest.approx(float(once), rel=1e-12)
    for term, value in terms.items():
        assert float(twice_terms[term]) == pytest.approx(float(value), rel=1e-12), term


def vae_gradients(beta, **fields):
    model, params = made(MODELS["vae"], dtype=np.float64)
    x, y = images(8, dtype=np.float64)
    model = model._replace(beta=beta, **fields)
    loss, terms, pullback = model.loss(params, batch_of(x, y))
    return float(loss), {k: float(v) for k, v in terms.items()}, pullback()


def test_doubling_beta_doubles_the_gradient_of_the_kl_term():
    (l0, terms, g0), (l1, _, g1), (l2, _, g2) = (vae_gradients(beta) for beta in (0.0, 1.0, 2.0))
    assert l0 == pytest.approx(terms["reconstruction"], rel=1e-14)
    assert l1 == pytest.approx(terms["reconstruction"] + terms["kl"], rel=1e-14)
    assert l2 - l1 == pytest.approx(l1 - l0, rel=1e-12)
    for name, a in named_leaves(g0["encoder"]):
        b, c = dict(named_leaves(g1["encoder"]))[name], dict(named_leaves(g2["encoder"]))[name]
        np.testing.assert_allclose(c - b, b - a, rtol=1e-9, atol=1e-9 * np.abs(b).max())
        assert np.any(b != a)


def test_kl_is_in_nats_per_image_by_its_formula():
    model, params = made(MODELS["vae"], dtype=np.float64)
    x, y = images(8, dtype=np.float64)
    mean, logvar = model.posterior(params, x)
    _, terms, _ = model.loss(params, batch_of(x, y))
    expected = 0.5 * np.sum(mean**2 + np.exp(logvar) - 1 - logvar) / 8
    assert float(terms["kl"]) == pytest.approx(expected, rel=1e-12)


def test_reconstruction_is_in_nats_per_image_by_its_formula():
    x, y = images(8, dtype=np.float64)
    for name in ("vae", "vae, gaussian, beta 3"):
        model, params = made(MODELS[name], dtype=np.float64)
        # Without noise left in the codes, the loss reconstructs from the means, as `reconstruct` does.
        params["encoder"][-1]["w"][3:], params["encoder"][-1]["b"][3:] = 0, -1e3
        p = model.reconstruct(params, x)
        bernoulli, gaussian = -x * np.log(np.abs(p)) - (1 - x) * np.log(np.abs(1 - p)), (x - p) ** 2 / (2 * 0.5**2)
        nats = bernoulli if name == "vae" else gaussian + math.log(0.5 * math.sqrt(2 * math.pi))
        _, terms, _ = model.loss(params, batch_of(x, y))
        assert float(terms["reconstruction"]) == pytest.approx(nats.sum() / 8, rel=0.02)  # a standard deviation of e^-5 is left


def test_latents_within_their_free_bits_feel_no_pull():
    loss, terms, grads = vae_gradients(1.0, free_bits=1e6)
    assert loss == pytest.approx(terms["reconstruction"] + 3e6, rel=1e-14)
    _, _, without = vae_gradients(0.0)
    assert bytes_of(grads) == bytes_of(without)
    with_none, _, with_all = vae_gradients(1.0, free_bits=0.0), None, vae_gradients(1.0)
    assert bytes_of(with_none[2]) == bytes_of(with_all[2])


def test_the_weight_of_the_kl_term_climbs():
    model = build({**MODELS["vae"], "beta": 2.0, "beta_warmup": 3})
    assert [model.beta_at(epoch) for epoch in (0, 1, 2, 3, 4, 99)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert build({**MODELS["vae"], "beta": 2.0}).beta_at(0) == 2.0


def test_log_variances_are_bounded_in_value_and_gradient():
    model, params = made(MODELS["vae"])
    x, y = images(4)
    for size in (1e3, -1e3, 1e30):
        params["encoder"][-1]["b"][3:] = size
        loss, _, pullback = model.loss(params, batch_of(x, y))
        assert math.isfinite(float(loss))
        assert all(np.all(np.isfinite(g)) for g in leaves(pullback()))
        assert np.all(np.abs(model.posterior(params, x)[1]) <= _BOUND)


def test_noise_is_a_function_of_seed_epoch_and_sample():
    model, params = made(MODELS["vae"], dtype=np.float64)
    x, y = images(6, dtype=np.float64)
    base = float(model.loss(params, batch_of(x, y))[0])
    assert float(model.loss(params, batch_of(x, y))[0]) == base
    for other in (batch_of(x, y, epoch=1), batch_of(x, y, seed=1), batch_of(x, y, index=np.arange(6) + 1)):
        assert float(model.loss(params, other)[0]) != base
    back = np.arange(6)[::-1]
    assert float(model.loss(params, batch_of(x[back], y[back], index=back))[0]) == pytest.approx(base, rel=1e-12)


def test_samples_of_the_prior_are_images_and_repeatable():
    model, params = made(MODELS["vae"])
    a, b, c = (model.sample(params, count=4, latent=3, seed=seed) for seed in (0, 0, 1))
    assert a.shape == (4, *SHAPE)
    assert 0 <= a.min() < a.max() <= 1
    np.testing.assert_array_equal(a, b)
    assert np.any(a != c)


def test_the_embedding_is_the_encoders_output_and_not_the_heads():
    model, params = made(MODELS["contrastive, crops"])
    x, _ = images(5)
    z = model.embed(params, x)
    assert z.shape == (5, 3)
    np.testing.assert_array_equal(z, model.encoder.forward(params["encoder"], x)[0])
    np.testing.assert_array_equal(z, model.embed({**params, "head": tree_map(lambda a: a * 0, params["head"])}, x))


def run(name, *, epochs=2, seed=0, start=None, count=22, batch_size=5, optimizer=None, **kwargs):
    model, params = made(MODELS[name])
    x, y = images(count)
    optimizer = optimizer or adam(1e-2)
    return fit(model, params, x, y, optimizer=optimizer, epochs=epochs, batch_size=batch_size, seed=seed, start=start, **kwargs)


@pytest.mark.parametrize("name", ["autoencoder", "vae", "contrastive, crops", "classifier"])
def test_resuming_from_any_step_gives_the_bytes_of_a_run_that_never_stopped(name, tmp_path):
    whole = list(run(name, clip=0.5))
    assert [step.number for step in whole] == list(range(1, 9))
    assert [step.epoch for step in whole] == [0] * 4 + [1] * 4
    assert [step.number for step in whole if step.ends_epoch] == [4, 8]
    _, params = made(MODELS[name])
    for stopped in (whole[0], whole[3], whole[5]):
        save_checkpoint(tmp_path / "model.safetensors", stopped)
        start = load_checkpoint(tmp_path / "model.safetensors", params, adam(1e-2).init(params))
        rest = list(run(name, clip=0.5, start=start))
        assert [step.terms for step in rest] == [step.terms for step in whole[stopped.number :]]
        assert bytes_of(rest[-1].params) == bytes_of(whole[-1].params)
        assert bytes_of(rest[-1].state) == bytes_of(whole[-1].state)
    assert list(run(name, start=whole[-1])) == []


def test_seeds_decide_everything():
    one, two, other = (list(run("vae", seed=seed))[-1] for seed in (3, 3, 4))
    assert one.terms == two.terms
    assert bytes_of(one.params) == bytes_of(two.params)
    assert bytes_of(one.params) != bytes_of(other.params)


def test_earlier_steps_stay_valid_and_arguments_are_not_written_to():
    model, params = made(MODELS["autoencoder"])
    x, y = images(10)
    before, x_before = bytes_of(params), x.tobytes()
    steps = fit(model, params, x, y, optimizer=adam(0.1), epochs=3, batch_size=5)
    first = next(steps)
    kept = bytes_of(first.params), bytes_of(first.state)
    list(steps)
    assert (bytes_of(first.params), bytes_of(first.state)) == kept
    assert bytes_of(params) == before
    assert x.tobytes() == x_before


def test_terms_are_floats_and_the_norm_is_that_before_clipping():
    step = next(iter(run("vae", clip=1e-3)))
    assert sorted(step.terms) == ["gradient_norm", "kl", "loss", "reconstruction"]
    assert all(type(value) is float for value in step.terms.values())
    free = next(iter(run("vae")))
    assert step.terms == pytest.approx(free.terms, rel=1e-6)
    assert step.terms["gradient_norm"] > 1e-3


def test_clipping_bounds_the_step():
    _, params = made(MODELS["autoencoder"])
    step = next(iter(run("autoencoder", clip=1e-3, optimizer=sgd(1.0))))
    moved = tree_map(lambda a, b: a - b, step.params, params)
    assert math.sqrt(inner(moved, moved)) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": math.nan}, r"step 1 \(epoch 0\): loss is nan; the batch's images hold numbers that are not finite"),
        ({"w": math.inf}, r"step 1 \(epoch 0\): loss is (nan|inf); the parameter decoder.0.w holds numbers that are not finite"),
        ({"rate": 1e30}, r"step \d+ \(epoch \d\): loss is (nan|inf); images and parameters are finite"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy says that the numbers overflow, before we do
def test_numbers_that_are_not_finite_are_named(change, text):
    model, params = made(MODELS["autoencoder"])
    x, _ = images(10)
    if "x" in change:
        x[:, 0, 2, 2] = change["x"]
    if "w" in change:
        params["decoder"][0]["w"][0, 0] = change["w"]
    with pytest.raises(FloatingPointError, match=text):
        list(fit(model, params, x, optimizer=sgd(change.get("rate", 0.1)), epochs=2, batch_size=5))


@pytest.mark.parametrize(
    ("bad", "text"), [(math.inf, "the gradient of a is not finite"), (1e30, "the squares of the gradients overflow")]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gradients_that_are_not_finite_are_named(bad, text):
    class Model:
        def loss(self, params, batch):
            return np.float32(1.0), {}, lambda: {"b": np.zeros(2, np.float32), "a": np.full(2, bad, np.float32)}

    params = {"b": np.zeros(2, np.float32), "a": np.zeros(2, np.float32)}
    steps = fit(Model(), params, images(4)[0], optimizer=sgd(0.1), epochs=1, batch_size=2)
    with pytest.raises(FloatingPointError, match=rf"step 1 \(epoch 0\): gradient_norm is inf; {text}"):
        next(steps)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"batch_size": 23}, "batch_size=23, but there are only 22 samples; needed at least one full batch"),
        ({"batch_size": 0}, "batch_size=0; needed at least 1"),
        ({"epochs": 0}, "epochs=0; needed at least 1"),
        ({"clip": 0.0}, "clip=0.0; needed above 0"),
    ],
)
def test_fit_refuses_before_it_is_asked_for_a_step(kwargs, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        run("autoencoder", **kwargs)


def test_labels_that_are_missing_or_too_few_are_refused():
    x, y = images(10)
    for name, text in (("classifier", "a classifier needs y"), ("contrastive, labels", "needed y, or positives='crops'")):
        model, params = made(MODELS[name])
        with pytest.raises(ValueError, match=text):
            next(fit(model, params, x, optimizer=adam(0.1), epochs=1, batch_size=5))
        with pytest.raises(ValueError, match=re.escape("y has shape (9,); needed (10,)")):
            fit(model, params, x, y[:9], optimizer=adam(0.1), epochs=1, batch_size=5)


def test_an_autoencoder_learns_a_few_images_by_heart():
    x, _ = images(8)
    model, params = made({"kind": "autoencoder", "shape": SHAPE, "latent": 8, "channels": [16, 32]})
    *_, last = fit(model, params, x, optimizer=adam(1e-2), epochs=200, batch_size=8)
    # Eight images lie on a plane of seven dimensions, so a code of eight could be exact: 1 % of their variance is generous.
    assert last.terms["mse"] < 0.01 * float(np.mean((x - x.mean(axis=0)) ** 2))


def test_a_vae_beats_the_mean_image():
    x, _ = images(32, (1, 12, 12))
    model, params = made({"kind": "vae", "shape": (1, 12, 12), "latent": 4, "channels": [16, 32]}, (1, 12, 12))
    *_, last = fit(model, params, x, optimizer=adam(1e-2), epochs=120, batch_size=32)
    mean = np.clip(x.mean(axis=0), 1e-6, 1 - 1e-6)
    # A decoder that ignores its code gets this, with no KL.
    nats = float(np.sum(-x * np.log(mean) - (1 - x) * np.log(1 - mean))) / 32
    floor = float(np.sum(np.where((x > 0) & (x < 1), -x * np.log(x + 1e-30) - (1 - x) * np.log(1 - x + 1e-30), 0))) / 32
    assert floor < last.terms["loss"] < nats - 5
    assert last.terms["kl"] > 0.5


def test_a_classifier_learns_labels_by_heart():
    x, y = images(30)
    model, params = made({"kind": "classifier", "shape": SHAPE, "latent": 16, "classes": 3})
    *_, last = fit(model, params, x, y, optimizer=adam(1e-2), epochs=120, batch_size=30)
    assert last.terms["accuracy"] == 1.0
    assert last.terms["loss"] < math.log(3) / 10  # a tenth of guessing
    np.testing.assert_array_equal(model.predict(last.params, x), y)


@pytest.mark.parametrize("positives", ["crops", "labels"])
def test_contrastive_learning_tells_images_apart(positives):
    x, y = images(16)
    config = {"kind": "contrastive", "shape": SHAPE, "latent": 16, "positives": positives, "augmentation": {"scale": [0.9, 1.0]}}
    model, params = made(config)
    steps = list(fit(model, params, x, y, optimizer=adam(1e-2), epochs=60, batch_size=16))
    assert steps[0].terms["chance"] == pytest.approx(math.log(31), rel=1e-12)
    # Chance chooses evenly among 31; a row's own class of 10 views or so costs log(10) at least.
    floor = 0.0 if positives == "crops" else float(np.mean([math.log(2 * np.sum(y == label) - 1) for label in y]))
    assert steps[-1].terms["loss"] < floor + 0.5 * (math.log(31) - floor)


@given(
    size=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    channels=st.integers(1, 3),
    stages=st.integers(1, 3),
    latent=st.integers(1, 5),
)
@settings(max_examples=40)
def test_decoders_give_back_any_shape(size, channels, stages, latent):
    shape = (channels, *size)
    counts = tuple(2 * (stage + 1) for stage in range(stages))
    model = Autoencoder(conv_encoder(shape, latent, counts), conv_decoder(shape, counts))
    params = model.init(np.random.default_rng(0), shape)
    x = np.zeros((2, *shape), np.float32)
    assert model.embed(params, x).shape == (2, latent)
    assert model.reconstruct(params, x).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (1, 25, 25), (3, 64, 48), (2, 100), (1, 9, 8, 7), (1, 1, 1)])
def test_standard_networks_fit_any_image(shape):
    for kind in ("autoencoder", "vae", "contrastive", "classifier"):
        model, params = made({"kind": kind, "shape": shape, "classes": 4 if kind == "classifier" else None}, shape)
        assert model.embed(params, np.zeros((2, *shape), np.float32)).shape[0] == 2
    assert -(-max(shape[1:]) // 2 ** len(default_channels(shape))) <= 7


def test_codes_are_at_most_a_quarter_of_the_image_unless_asked_for():
    assert [complete({"kind": "vae", "shape": (1, n, n)})["latent"] for n in (1, 4, 8, 28)] == [1, 4, 16, 20]
    assert complete({"kind": "vae", "shape": (1, 4, 4), "latent": 12})["latent"] == 12


def test_models_refuse_networks_that_do_not_fit():
    rng = np.random.default_rng(0)
    encoder, decoder = conv_encoder(SHAPE, 3, [4]), conv_decoder((1, 6, 6), [4])
    with pytest.raises(ValueError, match=re.escape("makes images of shape (1, 6, 6); needed that of the encoder's input")):
        Autoencoder(encoder, decoder).init(rng, SHAPE)
    with pytest.raises(ValueError, match=re.escape("makes codes of shape (3,); needed (2 * latent,)")):
        VAE(encoder, decoder).init(rng, SHAPE)


@pytest.mark.parametrize("name", MODELS)
def test_a_config_survives_json_and_builds_the_same_model(name):
    config = complete(MODELS[name])
    again = json.loads(json.dumps(config))
    assert again == config
    assert complete(again) == config
    assert build(again) == build(MODELS[name])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "gan"}, "kind='gan'; needed one of 'autoencoder', 'vae', 'contrastive', 'classifier'"),
        ({"latent": 0}, "latent=0; needed a whole number of at least 1"),
        ({"latent": 2.5}, "latent=2.5; needed a whole number of at least 1"),
        ({"latent": True}, "latent=True; needed a whole number"),
        ({"epochs": 0}, "epochs=0; needed a whole number of at least 1"),
        ({"learning_rate": math.nan}, "learning_rate=nan; needed a number above 0"),
        ({"clip": -1}, "clip=-1; needed a number above 0"),
        ({"shape": [28, 28.0]}, "shape=[28, 28.0]; needed that of one image"),
        ({"shape": None}, "shape=None; needed that of one image"),
        ({"channels": []}, "channels=[]; needed whole numbers of at least 1"),
        ({"activation": "sine"}, "activation='sine'; needed one of 'relu'"),
        ({"beta": 1.0}, "autoencoder has no beta; there are kind, shape"),
        ({"kind": "vae", "beta": -1}, "beta=-1; needed a number of at least 0"),
        ({"kind": "vae", "likelihood": "poisson"}, "likelihood='poisson'; needed one of 'bernoulli', 'gaussian'"),
        ({"kind": "contrastive", "temperature": 0}, "temperature=0; needed a number above 0"),
        ({"kind": "contrastive", "augmentation": {"blur": 1}}, "augmentation has no blur; there are scale"),
        ({"kind": "classifier"}, "classes=None; a classifier needs at least 2"),
    ],
)
def test_configs_are_refused_by_name(change, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        complete({**MODELS["autoencoder"], **change})


def test_training_of_a_config_ends_with_the_rate_at_nothing():
    config = complete({**MODELS["autoencoder"], "epochs": 3, "batch_size": 5, "learning_rate": 0.1})
    settings = training(config, 22)
    optimizer = settings.pop("optimizer")
    assert settings == {"epochs": 3, "batch_size": 5, "seed": 0, "clip": None}
    params = {"w": np.zeros(1)}
    moves = [abs(optimizer.update({"w": np.ones(1)}, optimizer.init(params), params, 0)[0]["w"][0])]
    state = optimizer.init(params)
    for step in range(3 * steps_per_epoch(22, 5)):
        params, state = optimizer.update({"w": np.ones(1)}, state, {"w": np.zeros(1)}, step)
        moves.append(abs(params["w"][0]))
    assert moves[0] == pytest.approx(0.1, rel=1e-6)
    assert 0 < moves[-1] < 0.01
    with pytest.raises(ValueError, match="batch_size=5, but there are only 4 samples"):
        training(config, 4)


@pytest.mark.parametrize("kind", ["autoencoder", "vae", "contrastive", "classifier"])
def test_the_dense_counterpart_has_as_many_parameters(kind):
    config = complete({"kind": kind, "shape": (1, 28, 28), "classes": 10})
    dense = dense_counterpart(config)
    sizes = [nn.count_parameters(made(c, (1, 28, 28))[1]) for c in (config, dense)]
    assert abs(sizes[0] - sizes[1]) <= 1700 / 2  # half of what one more hidden feature would cost: 2 x 784, and the code's
    assert {key for key in config if config[key] != dense[key]} == {"network", "channels"}


@pytest.mark.parametrize("name", ["vae", "classifier"])
def test_mean_terms_do_not_depend_on_the_batch_size(name):
    model, params = made(MODELS[name], dtype=np.float64)
    x, y = images(11, dtype=np.float64)
    whole, parts = (mean_terms(model, params, x, y, batch_size=size) for size in (11, 4))
    assert whole == pytest.approx(parts, rel=1e-12)
    np.testing.assert_allclose(embed(model, params, x, batch_size=4), model.embed(params, x), rtol=1e-12)


def test_training_stays_in_the_callers_library():
    xp = pytest.importorskip("array_api_strict")
    model, params = made(MODELS["vae"])
    x, _ = images(6)
    theirs = list(fit(model, tree_map(xp.asarray, params), xp.asarray(x), optimizer=adam(1e-2), epochs=1, batch_size=3, clip=1.0))
    ours = list(fit(model, params, x, optimizer=adam(1e-2), epochs=1, batch_size=3, clip=1.0))
    for a, b in zip(leaves(theirs[-1].params), leaves(ours[-1].params), strict=True):
        assert a.__array_namespace__() is xp.asarray(1.0).__array_namespace__()
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-5)


def test_a_step_says_where_a_run_is():
    assert Step(3, 1, {"loss": 0.5}, (), ()).ends_epoch is False
    assert steps_per_epoch(22, 5) == 4
