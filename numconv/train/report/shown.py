"""The sections of a report that show images: each takes the material and returns HTML, or nothing where it does not apply."""

from __future__ import annotations

import html
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ... import nn
from ..evaluate import Floats, fit_pca, nearest
from . import charts
from .charts import Line
from .material import Material, pixel_pca, spread
from .page import figure, percent, section, strips
from .pictures import is_signal, picture, says, signed_tiles, tiles
from .words import thing

_ACROSS = 10  # pictures side by side: as many as a phone shows at a legible size
_PANELS = 6
_KERNELS = 32
_KERNELS_ACROSS = 8


def reconstructions(m: Material) -> str:
    """Show images, what is left of them after the code, and what PCA leaves."""
    if m.kind not in ("autoencoder", "vae"):
        return ""
    x = m.x[spread(m, _PANELS if is_signal(m.x) else _ACROSS)]
    rows = [
        ("original", x),
        ("model", np.asarray(m.model.reconstruct(m.params, x))),
        (f"PCA, {m.z.shape[1]} components", pixel_pca(m).reconstruct(x)),
    ]
    caption = f"{len(x)} {m.part} {thing(m, len(x))}, rebuilt by the model and by as many principal components."
    return section("Reconstructions", figure(_rows("reconstructions", m, rows), caption + says(m.x)))


def samples(m: Material) -> str:
    """Show images decoded from codes that were drawn from the prior."""
    if m.kind != "vae":
        return ""
    count = _PANELS if is_signal(m.x) else 3 * _ACROSS
    drawn = np.asarray(m.model.sample(m.params, count=count, latent=m.z.shape[1]))
    caption = f"{count} codes drawn from the standard normal prior, decoded: {thing(m)} that are in no data set."
    body = _panels("samples", caption, [("sample", drawn)]) if is_signal(m.x) else picture(caption, tiles(drawn), _ACROSS)
    return section("Drawn from the prior", figure(body, caption + says(m.x)))


def traversal(m: Material) -> str:
    """Show how an image changes along its latents: all of the plane if there are two, else one latent at a time."""
    if m.kind != "vae" or is_signal(m.x):
        return ""
    return section("Along the latents", _plane(m) if m.z.shape[1] == 2 else _sweeps(m))


def _plane(m: Material) -> str:
    quantiles = [NormalDist().inv_cdf((i + 0.5) / _ACROSS) for i in range(_ACROSS)]
    codes = np.array([(a, -b) for b in quantiles for a in quantiles], dtype=m.z.dtype)
    caption = (
        f"The whole latent plane, decoded at {_ACROSS}×{_ACROSS} points that cut the prior into equally likely parts: latent 0 "
        "to the right, latent 1 upward."
    )
    return figure(picture(caption, tiles(_decoded(m, codes)), _ACROSS), caption + says(m.x))


def _sweeps(m: Material) -> str:
    # The nats of each latent say which matter; without them, how much their means vary does nearly.
    nats = np.asarray(m.metrics.get("kl_per_latent") or m.z.var(axis=0))
    values = np.linspace(-3, 3, 9, dtype=m.z.dtype)
    rows = []
    for latent in np.argsort(-nats, kind="stable")[:8]:
        codes = np.repeat(m.z[:1], len(values), axis=0)
        codes[:, latent] = values
        alt = f"latent {latent} going from −3 to 3"
        rows.append((f"latent {latent}", picture(alt, tiles(_decoded(m, codes)), len(values))))
    caption = (
        f"From the code of one {m.part} {thing(m, 1)}, one latent at a time goes from −3 to 3 while the others stay; the latents "
        "that carry most come first. A row in which nothing moves is a latent that the decoder ignores."
    )
    return figure(strips(rows), caption + says(m.x))


def latent_map(m: Material) -> str:
    """Draw the embeddings in the plane, coloured by class."""
    dimension = m.z.shape[1]
    if dimension < 2 or len(m.z) < 3:
        return ""
    points, axes, how = m.z, ("latent 0", "latent 1"), "its two numbers as they are"
    if dimension > 2:
        # Embeddings that are all alike have no variance of which to explain a share.
        with np.errstate(divide="ignore", invalid="ignore"):
            points = fit_pca(m.z, 2).embed(m.z)
        total = float(m.z.var(axis=0).sum())
        share = f", with {percent(float(points.var(axis=0).sum()) / total)} of its variance" if total > 0 else ""
        axes, how = (
            ("first principal component", "second principal component"),
            f"the first two principal components of its {dimension} numbers{share}",
        )
    told = "" if m.y is None else " Colour and shape tell the class; its name stands at the median."
    caption = f"The embedding of {len(m.z):,} {m.part} {thing(m)}: {how}.{told}"
    body = charts.scatter("map", caption, points, m.y, m.names or (), xlabel=axes[0], ylabel=axes[1])
    return section("Map of the embedding", figure(body, caption))


def neighbours(m: Material) -> str:
    """Show a few images, each with those nearest to it in the embedding."""
    count = min(6, len(m.z) - 1)
    if count < 1 or is_signal(m.x):
        return ""
    queries = spread(m, 8)
    rows = []
    for query, found in zip(queries, nearest(m.z, m.z[queries], count + 1), strict=True):
        others = [int(i) for i in found if i != query][:count]
        name, alt = "", f"the {len(others)} {m.part} {thing(m)} nearest to the one on the left"
        if m.y is not None:
            name = f"{m.label(query)}: {int(np.sum(m.y[others] == m.y[query]))} of {len(others)}"
            alt += f", a {m.label(query)}: {', '.join(map(m.label, others))}"
        own = picture(f"{m.part} {thing(m, 1)}, {m.label(query)}".rstrip(", "), tiles(m.x[[query]]), 1)
        rows.append((f"{own}<span>{html.escape(name)}</span>", picture(alt, tiles(m.x[others]), count)))
    told = " Beside it, its class and how many of them share it." if m.y is not None else ""
    caption = (
        f"On the left a {m.part} {thing(m, 1)}, on the right the {count} others whose embeddings are nearest to its own.{told}"
    )
    return section("Nearest neighbours", figure(strips(rows), caption + says(m.x)))


def first_layer(m: Material) -> str:
    """Show what the first layer looks for, and where it finds it."""
    layers = getattr(getattr(m.model, "encoder", None), "layers", ())
    if not layers or not isinstance(layers[0], nn.Conv):
        return ""
    own = m.params["encoder"]
    w = np.asarray(own[0]["w"])[:_KERNELS]
    scale = _scale(np.abs(w).reshape(len(w), -1).max(axis=1))
    rows = []
    for channel in range(min(w.shape[1], 4)):
        name = f"channel {channel}" if w.shape[1] > 1 else "kernels"
        alt = f"{len(w)} kernels of the first layer" + (f" on {name}" if w.shape[1] > 1 else "")
        rows.append((name, picture(alt, signed_tiles(w[:, channel : channel + 1], scale), _KERNELS_ACROSS)))
    size = "×".join(map(str, w.shape[2:]))
    look = (
        f"The {len(w)} kernels of the first layer, {size} weights each: blue is negative, orange positive, blank zero. Look for "
        "edges (one side blue, the other orange), corners, and blobs (a centre unlike what surrounds it); what looks like noise "
        "has learned little."
    )
    if is_signal(m.x):
        look = look.replace("corners, and blobs", "and peaks")
    return section(
        "What the first layer looks for", figure(strips(rows), look), "" if is_signal(m.x) else _feature_maps(m, layers)
    )


def _feature_maps(m: Material, layers: Sequence[nn.Layer]) -> str:
    x, own = m.x[spread(m, 4)], m.params["encoder"]
    y = layers[0].forward(own[0], x)[0]
    after = "the layer"
    if len(layers) > 1 and type(layers[1]).__module__ == nn.Relu.__module__:
        y, after = layers[1].forward(own[1], y)[0], "the layer after its activation"
    y = np.asarray(y)[:, :_KERNELS]
    scale = _scale(np.abs(y).max(axis=(0, *range(2, y.ndim))))
    rows = []
    for i in range(len(x)):
        label = f", {m.label(spread(m, 4)[i])}" if m.y is not None else ""
        maps = picture(f"its {y.shape[1]} feature maps", signed_tiles(y[i][:, None], scale), _KERNELS_ACROSS)
        rows.append((picture(f"{m.part} {thing(m, 1)}{label}", tiles(x[i : i + 1]), 1), maps))
    where = (
        f"And where they find it: {m.part} {thing(m)}, and beside each the outputs of {after}, in the order of the kernels "
        "above. A strong orange says that here is what this kernel looks for."
    )
    return figure(strips(rows), where + says(m.x))


def _scale(greatest: Floats) -> Floats:
    """Return the number at which each channel's colour is full; a channel that is nearly silent is not made to look loud."""
    return np.maximum(greatest, max(0.3 * float(greatest.max()), 1e-12))


def _decoded(m: Material, codes: Floats) -> Floats:
    return np.asarray(m.model.decode(m.params, codes))


def _rows(name: str, m: Material, rows: Sequence[tuple[str, Floats]]) -> str:
    if is_signal(m.x):
        return _panels(name, f"{name} of {len(rows[0][1])} {thing(m)}", rows)
    return strips(
        (html.escape(label), picture(f"{label}: {len(x)} {m.part} {thing(m, len(x))}", tiles(x), _ACROSS)) for label, x in rows
    )


def _panels(name: str, alt: str, rows: Sequence[tuple[str, Floats]]) -> str:
    """Draw signals as curves, one panel for each; of several channels, their mean."""
    count, length = len(rows[0][1]), rows[0][1].shape[-1]
    panels = [[Line(label, range(length), x[i].mean(axis=0)) for label, x in rows] for i in range(count)]
    return charts.panels(name, alt, panels)
