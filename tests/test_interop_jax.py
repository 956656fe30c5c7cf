"""numconv's functions under JAX's transformations, beside JAX's own: eager, compiled, differentiated twice, vectorised."""

import inspect

import numpy as np
import pytest
from oracles import normals

import numconv

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

from numconv.interop import jax as ncj  # noqa: E402


@pytest.fixture(autouse=True)
def double():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def arrays(*shapes, dtype=np.float64):
    a = [jnp.asarray(re) for re in normals(0, *shapes)]
    return a if dtype == np.float64 else [a + 1j * jnp.asarray(im) for a, im in zip(a, normals(1, *shapes), strict=True)]


def theirs(x, w, b):
    y = jax.lax.conv_general_dilated(x, w, (2, 1), ((1, 1), (0, 2)), rhs_dilation=(1, 2), feature_group_count=2)
    return y + b[:, None, None]


def ours(x, w, b):
    return ncj.conv2d(x, w, b, stride=(2, 1), padding=[1, (0, 2)], dilation=(1, 2), groups=2)


def theirs_transposed(x, w, b):
    """The transpose of a convolution by JAX: linear in x, so its gradient anywhere."""
    _, pull = jax.vjp(lambda y: theirs(y, w, jnp.zeros(w.shape[0])), jnp.zeros((2, 4, 7, 6), x.dtype))
    return pull(x)[0] + b[:, None, None]


def ours_transposed(x, w, b):
    pads = [1, (0, 2)]
    return ncj.conv_transpose(x, w, b, stride=(2, 1), padding=pads, dilation=(1, 2), groups=2, output_size=(7, 6))


SHAPES = ((2, 4, 7, 6), (6, 2, 3, 2), (6,))
CASES = [(ours, theirs, SHAPES), (ours_transposed, theirs_transposed, ((2, 6, 4, 6), (6, 2, 3, 2), (4,)))]
PAIRS = pytest.mark.parametrize(("f", "g", "shapes"), CASES, ids=["conv", "conv_transpose"])
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.complex128], ids=["real", "complex"])


def same(a, b, tolerance=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), a, b)


def energy(f):
    return lambda *args: jnp.sum(jnp.abs(jnp.tanh(f(*args) / 4)) ** 2)


@PAIRS
@DTYPES
@pytest.mark.parametrize("how", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_value_and_gradients(f, g, shapes, dtype, how):
    given = arrays(*shapes, dtype=dtype)
    same(how(f)(*given), g(*given))
    same(how(jax.grad(energy(f), argnums=(0, 1, 2)))(*given), jax.grad(energy(g), argnums=(0, 1, 2))(*given))


@PAIRS
@pytest.mark.parametrize("how", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_second_derivatives(f, g, shapes, how):
    """A gradient penalty in all arguments, and a Hessian along directions: products of all three contractions."""
    given = arrays(*shapes)

    def penalty(f):
        def of(*args):
            return sum(jnp.sum(jnp.cos(d)) for d in jax.grad(energy(f), argnums=(0, 1, 2))(*args))

        return jax.grad(of, argnums=(0, 1, 2))

    same(how(penalty(f))(*given), penalty(g)(*given))


def test_hessian():
    x, w = arrays((1, 1, 5), (2, 1, 2))

    def of(conv):
        return lambda w: jnp.sum(conv(x, w) ** 3)

    hessian = jax.jacrev(jax.jacrev(of(lambda x, w: ncj.conv1d(x, w))))(w)
    same(hessian, jax.hessian(of(lambda x, w: jax.lax.conv(x, w, (1,), "VALID")))(w))


@PAIRS
@pytest.mark.parametrize("how", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_vmap(f, g, shapes, how):
    """Over weights, inputs or both, and of gradients: per-sample gradients."""
    x, w, b = arrays(*((3, *shape) for shape in shapes))
    for axes in ((0, 0, 0), (0, None, None), (None, 0, None)):
        given = [a if axis == 0 else a[0] for a, axis in zip((x, w, b), axes, strict=True)]
        same(how(jax.vmap(f, axes))(*given), jax.vmap(g, axes)(*given))
    per_sample = [jax.vmap(jax.grad(energy(h), argnums=1), (0, None, None)) for h in (f, g)]
    same(how(per_sample[0])(x, w[0], b[0]), per_sample[1](x, w[0], b[0]))


LABELS = np.array([0, 2, 1, 2])
ONCE = {
    "avg_pool": lambda x: ncj.avg_pool(x[None], 2, stride=1),
    "adaptive_avg_pool": lambda x: ncj.adaptive_avg_pool(x[None], 2),
    "global_avg_pool": lambda x: ncj.global_avg_pool(x[None]),
    "max_pool": lambda x: ncj.max_pool(x[None], 2),
    "max_pool over borders": lambda x: ncj.max_pool(x[None], 2, padding=1, padding_mode="circular"),
    "pad": lambda x: ncj.pad(x, (1, 2), value=3.0),
    "unfold": lambda x: ncj.unfold(x[None], 2),
    "fold": lambda x: ncj.fold(x.reshape(1, 2, 2, 3), 4, 2),
    "max_pool_with_indices": lambda x: ncj.max_pool_with_indices(x[None], 2)[0],
    "resize": lambda x: ncj.resize(x[None], 7, mode="linear"),
    "relu": lambda x: ncj.relu(x),
    "linear": lambda x: ncj.linear(x, x[:3] * x[0, 0], x[0]),
    "tanh": lambda x: ncj.tanh(x),
    "layer_norm": lambda x: ncj.layer_norm(x, x[0], x[1]),
    "batch_norm": lambda x: ncj.batch_norm(x, x[0], x[1]),
    "cross_entropy_loss": lambda x: ncj.cross_entropy_loss(x, LABELS),
    "nt_xent_loss": lambda x: ncj.nt_xent_loss(x, x[::-1]),
}
TWICE = list(ONCE)[: list(ONCE).index("linear") + 1]


def check(f, x):
    """Compare the gradient of f along a direction with a central difference."""
    (direction,) = normals(7, x.shape)
    step = 1e-6
    difference = (f(x + step * direction) - f(x - step * direction)) / (2 * step)
    for how in (lambda f: f, jax.jit):
        assert float((how(jax.grad(f))(x) * direction).sum()) == pytest.approx(float(difference), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", ONCE)
def test_other_functions(name):
    (x,) = arrays((4, 3))
    f = ONCE[name]
    same(jax.jit(f)(x), f(x), 1e-14)
    check(lambda x: jnp.sum(jnp.sin(f(x))), x)


@pytest.mark.parametrize("name", TWICE)
def test_other_functions_twice(name):
    (x,) = arrays((4, 3))
    f = ONCE[name]
    check(lambda x: jnp.sum(jnp.sin(jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))(x))), x)


@pytest.mark.parametrize("how", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_differentiable_once(how):
    (x,) = arrays((4, 3))
    with pytest.raises(TypeError, match=r"tanh of numconv\.interop\.jax is differentiable once"):
        how(jax.grad(lambda x: jax.grad(lambda x: ncj.tanh(x).sum())(x).sum()))(x)


@pytest.mark.parametrize("how", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_no_gradient_is_not_a_gradient_of_zero(how):
    x, var = arrays((4, 3), (3,))

    def f(x, var):
        return ncj.batch_norm(x, mean=0 * var, var=jnp.exp(var)).sum()

    with pytest.raises(TypeError, match=r"batch_norm has no gradient in (mean|var); needed jax\.lax\.stop_gradient\("):
        how(jax.grad(f, argnums=1))(x, var)
    same(how(jax.grad(f))(x, var), jnp.broadcast_to(1 / jnp.sqrt(jnp.exp(var) + 1e-5), x.shape))


def test_a_training_loop_in_compiled_code():
    """`jax.lax.scan` over steps of gradient descent finds the filter that made the data."""
    x, w = arrays((8, 1, 32), (1, 1, 3))
    y = ncj.conv1d(x, w)

    def step(w, _):
        loss, dw = jax.value_and_grad(lambda w: jnp.mean((ncj.conv1d(x, w) - y) ** 2))(w)
        return w - 0.3 * dw, loss

    found, losses = jax.jit(lambda w: jax.lax.scan(step, w, None, length=60))(jnp.zeros_like(w))
    same(found, w, 1e-4)
    assert losses[-1] < 1e-8 < losses[0]


def test_unpooling():
    x = jnp.asarray(normals(0, (2, 3, 4))[0])
    indices = jnp.asarray(np.broadcast_to(np.array([1, 2, 5, 7]), x.shape))
    for size in (8, (8,)):
        f = jax.jit(lambda x, size=size: jnp.sum(jnp.sin(ncj.max_unpool(x, indices, 2, output_size=size))))
        check(f, x)


def test_single_precision_without_double():
    """As JAX starts: 32 bits, indices too."""
    jax.config.update("jax_enable_x64", False)
    x, w = (jnp.asarray(a, jnp.float32) for a in normals(0, (2, 3, 8), (4, 3, 3)))
    y = jax.jit(lambda x, w: ncj.max_pool_with_indices(ncj.conv(x, w), 2))(x, w)
    assert [a.dtype for a in y] == [jnp.float32, jnp.int32]
    np.testing.assert_allclose(y[0], numconv.max_pool(numconv.conv(np.asarray(x), np.asarray(w)), 2), rtol=1e-5, atol=1e-5)


def test_mixed_dtypes():
    """Gradients have the dtypes of their arguments."""
    x, w = normals(0, (1, 2, 5), (3, 2, 2))
    x32, complex_w = jnp.asarray(x, jnp.float32), jnp.asarray(w) * (1 + 2j)
    dx, dw = jax.grad(energy(ncj.conv), argnums=(0, 1))(x32, w)
    assert (dx.dtype, dw.dtype) == (jnp.float32, jnp.float64)
    found = jax.grad(energy(ncj.conv))(jnp.asarray(x), complex_w)
    same(found, jax.grad(energy(lambda x, w: jax.lax.conv(x + 0j, w, (1,), "VALID")))(jnp.asarray(x), complex_w))


def test_gradients_not_asked_for_are_not_computed(monkeypatch):
    """Compiled, the gradient in x alone is one call of one kernel."""
    calls = []
    for name in ("conv_input_grad", "conv_weight_grad"):
        of = ncj._named(name).__wrapped__

        def counted(*args, of=of, **kwargs):
            calls.append(of.__name__)
            return of(*args, **kwargs)

        counted.__name__, counted.__wrapped__ = name, of
        known = ncj.pair(name)._replace(f=counted)
        monkeypatch.setattr(ncj, "pair", lambda n, known=known, name=name, before=ncj.pair: known if n == name else before(n))
    ncj._named.cache_clear()
    x, w = arrays((1, 2, 9), (3, 2, 4))
    f = jax.jit(jax.grad(lambda x: jnp.sum(ncj.conv(x, w))))
    f(x).block_until_ready()
    del calls[:]
    f(x).block_until_ready()
    ncj._named.cache_clear()
    assert calls == ["conv_input_grad"]


def test_every_function_with_a_gradient_is_here():
    for name in numconv.__all__:
        if f"{name}_vjp" in numconv.__all__:
            assert str(inspect.signature(getattr(ncj, name))) == str(inspect.signature(getattr(numconv, name)))
            assert name in dir(ncj)
    for name in ("nothing", "conv_output_shape", "_nothing"):
        with pytest.raises(AttributeError):
            getattr(ncj, name)


def test_large_arrays_in_compiled_code():
    """Compiled callbacks with arrays of some megabytes come back."""
    x = jnp.ones((4, 8, 256, 256), jnp.float32)
    w = jnp.ones((8, 8, 3, 3), jnp.float32)
    f = jax.jit(lambda x, w: ncj.conv(ncj.conv(x, w, padding=1) / 72, w))
    np.testing.assert_allclose(f(x, w)[:, :, 1:-1, 1:-1], 72, rtol=1e-5)
