"""The report: its sections, that it stands alone, that its numbers are those of metrics.json, that it is whole or not there."""

import base64
import html.parser
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from numconv import nn, train
from numconv.train.data import Dataset
from numconv.train.report import measured, page, pictures, shown, words, write_report
from numconv.train.report.material import gather, spread
from numconv.train.run import Run

KINDS = ("autoencoder", "vae", "contrastive", "classifier")
EVERY = {"In numbers", "Over the epochs", "Map of the embedding", "Nearest neighbours", "How it was trained", "On what machine"}
KERNELS = "What the first layer looks for"
OWN = {
    "autoencoder": {"Reconstructions"},
    "vae": {"Reconstructions", "Drawn from the prior", "Along the latents", "What each latent carries"},
    "contrastive": set(),
    "classifier": {"Convolution against dense layers", "What is taken for what"},
}
EMBEDDING = {
    "dimension": 4,
    "knn_accuracy": 0.9137,
    "knn_accuracy_pca": 0.8421,
    "knn_accuracy_pixels": 0.7713,
    "collapse_level": 0.6543,
    "protocol": "kNN: k=10, Euclidean",
}
REBUILT = {"mse": 0.012345, "psnr_db": 19.085, "mse_pca": 0.023456}
TEST = {
    "autoencoder": REBUILT,
    "vae": {
        **REBUILT,
        "elbo_nats": 101.25,
        "reconstruction_nats": 91.5,
        "kl_nats": 9.75,
        "bernoulli_floor_nats": 55.25,
        "active_units": 3,
    },
    "contrastive": {"loss": 2.468, "chance": 5.541},
    "classifier": {
        "accuracy": 0.957,
        "accuracy_dense": 0.923,
        "parameters": 12345,
        "parameters_dense": 12399,
        "confusion": [[9, 1, 0], [0, 8, 2], [1, 0, 7]],
    },
}
TERMS = {"autoencoder": ["mse"], "vae": ["reconstruction", "kl"], "contrastive": ["chance"], "classifier": ["accuracy"]}


def data_of(size=(9, 7), channels=1, tests=20, labels=True, name="bumps", class_names=("low", "middle", "high")):
    """Random images, a few dozen, with labels in turn."""
    rng = np.random.default_rng(0)
    x = rng.random((40 + tests, channels, *size), dtype=np.float32)
    y = np.arange(40 + tests) % 3
    if not labels:
        return Dataset(name, x[:40], None, x[40:], None, None)
    return Dataset(name, x[:40], y[:40], x[40:], y[40:], class_names)


def made(kind, data, **options):
    """Return what write_report takes after the run."""
    given = {"latent": 4, "channels": [5], "data": data.name, **options}
    if kind == "classifier":
        given["classes"] = 3
    config = train.complete({"kind": kind, "shape": data.train_x.shape[1:], **given})
    model = train.build(config)
    params = model.init(np.random.default_rng(0), data.train_x.shape[1:])
    names = ["loss", *TERMS[kind], "gradient_norm"]
    metrics = {
        "model": kind,
        "data": data.name,
        "parameters": nn.count_parameters(params),
        "test": TEST[kind],
        "embedding": EMBEDDING,
        "images_per_second": 4321.0,
        "seconds": 12.75,
        "epochs": 3,
        "history": [{"epoch": e, **dict.fromkeys(names, 3.0 / e), "test_loss": 3.5 / e} for e in (1, 2, 3)],
        "versions": {"numconv": "0.1.0", "numpy": "2.3.0", "numba": "0.67.0", "python": "3.13.1"},
        "machine": {"cpu": "znver4", "threads": 2, "device": "cpu"},
    }
    if kind == "vae":
        metrics["kl_per_latent"] = [2.5, 0.125, 5.0, 1.75][: config["latent"]]
    return model, params, data, config, metrics


def written(folder, parts):
    path = write_report(Run(folder), *parts)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


class Outline(html.parser.HTMLParser):
    """Open tags, headings, rows of tables, pictures, ids and what refers to them; a tag that closes out of turn is an error."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.rows, self.tags, self.ids, self.refers = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.refers += re.findall(r"url\(([^)]*)\)", text)

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"<{tag}> names an attribute twice"
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.refers += [attributes[key] for key in ("href", "src", "xlink:href") if key in attributes]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "h2":
            self.headings[-1] += text
        elif self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += text

    def row(self, name):
        """Return the numbers of the row that begins with a name."""
        (row,) = [row for row in self.rows if row[0] == name]
        cells = [cell.replace(",", "").replace("\N{NO-BREAK SPACE}%", "e-2") for cell in row[1:]]
        return [float(cell) for cell in cells if re.fullmatch(r"-?[\d.]+(e-2)?", cell)]


def check_stands_alone(text):
    """A page is balanced, describes its pictures, and refers to nothing but itself."""
    outline = Outline(text)
    readable = re.sub(r"base64,[\w+/=\s]+", "", text)
    assert "http" not in readable
    assert not re.search(r"\b(nan|inf|None)\b", readable)
    assert "://" not in text
    assert not {"script", "link", "iframe"} & {tag for tag, _ in outline.tags}
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    assert all(a.get("aria-label") and a.get("role") == "img" for tag, a in outline.tags if tag == "svg")
    assert len(set(outline.ids)) == len(outline.ids)
    for target in outline.refers:
        assert target.startswith("data:image/png;base64,") or target.removeprefix("#") in outline.ids, target[:60]
    return outline


# --- what is on the page ---


@pytest.mark.parametrize("kind", KINDS)
def test_sections_of_a_kind(tmp_path, kind):
    text = written(tmp_path, made(kind, data_of()))
    outline = check_stands_alone(text)
    assert set(outline.headings) == EVERY | OWN[kind] | {KERNELS}
    assert len(outline.headings) == len(set(outline.headings))
    assert f"<title>Convolutional {words.NAMES[kind]} trained on bumps</title>" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


@pytest.mark.parametrize("kind", KINDS)
def test_dense_networks_have_no_kernels(tmp_path, kind):
    text = written(tmp_path, made(kind, data_of(), network="dense"))
    assert KERNELS not in check_stands_alone(text).headings
    assert f"<title>Dense {words.NAMES[kind]} trained on bumps</title>" in text


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_metrics(tmp_path, kind):
    parts = made(kind, data_of())
    outline = Outline(written(tmp_path, parts))
    test = TEST[kind]
    model, pca, pixels = (outline.row(name) for name in ("this model", "PCA", "raw pixels"))
    rebuilt = "mse" in test
    close = {"rel": 5e-4}
    assert model == pytest.approx([4, *([test["mse"], test["psnr_db"]] if rebuilt else []), 0.9137], **close)
    assert pca == pytest.approx([4, *([test["mse_pca"], -10 * np.log10(test["mse_pca"])] if rebuilt else []), 0.8421], **close)
    assert pixels == pytest.approx([63, 0.7713], **close)
    rows = {
        "loss": "loss",
        "chance": "chance",
        "negative ELBO": "elbo_nats",
        "reconstruction": "reconstruction_nats",
        "KL divergence": "kl_nats",
        "floor of the reconstruction": "bernoulli_floor_nats",
        "active latents": "active_units",
    }
    for name, key in rows.items():
        if key in test:
            assert outline.row(name) == pytest.approx([test[key]], **close)
        else:
            assert not any(row[0] == name for row in outline.rows)
    assert outline.row("spread of directions") == pytest.approx([0.6543])
    assert outline.row("seconds, all in all") == [12.75]


def test_convolution_against_dense(tmp_path):
    outline = Outline(written(tmp_path, made("classifier", data_of())))
    assert outline.row("convolution") == pytest.approx([12345, 0.957])
    assert outline.row("dense layers") == pytest.approx([12399, 0.923])


def test_the_confusion_matrix_holds_its_numbers(tmp_path):
    text = written(tmp_path, made("classifier", data_of()))
    chart = text[text.index("<h2>What is taken for what") : text.index("<h2>How it was trained")]
    assert [int(n) for n in re.findall(r">(\d+)</text>", chart)] == [9, 1, 8, 2, 1, 7]
    assert "24 of 28 test images are on the diagonal" in chart
    assert "middle taken for high, 2 times" in chart


def test_a_matrix_of_many_classes_becomes_a_table(tmp_path):
    parts = made("classifier", data_of())
    counts = np.diag(np.full(30, 5))
    counts[4, 7], counts[28, 1] = 3, 6
    parts[-1]["test"] = {**TEST["classifier"], "confusion": counts.tolist()}
    outline = check_stands_alone(written(tmp_path, parts))
    assert [row for row in outline.rows if row[0] in ("4", "28")] == [["28", "middle", "6"], ["4", "7", "3"]]


def test_curves_name_their_levels(tmp_path):
    labels = {}
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        outline = Outline(written(tmp_path / kind, made(kind, data_of())))
        labels[kind] = [a["aria-label"] for tag, a in outline.tags if tag == "svg"]
    assert any("Mean square error: 1 in training and 1.167 in test" in label for label in labels["autoencoder"])
    assert any("(PCA on test images) is at 0.02346" in label for label in labels["autoencoder"])
    assert any(label.startswith("Reconstruction, nats") and "55.25" in label for label in labels["vae"])
    assert any(label.startswith("KL divergence, nats") for label in labels["vae"])
    # The chance of the training batches, not of the test's, which may be smaller.
    assert any("(chance) is at 1." in label for label in labels["contrastive"])


@pytest.mark.parametrize(
    ("mse", "says"), [(0.01, "50\xa0% less than PCA"), (0.03, "50\xa0% more than PCA"), (0.02, "as much as PCA")]
)
def test_the_first_paragraph_says_how_it_did(tmp_path, mse, says):
    parts = made("autoencoder", data_of())
    parts[-1]["test"] = {"mse": mse, "mse_pca": 0.02}
    assert says in written(tmp_path, parts).partition("<main>")[0]


def test_latents_that_carry_most_come_first():
    m = gather(*made("vae", data_of()))
    assert re.findall(r"<div>(latent \d)</div>", shown.traversal(m)) == ["latent 2", "latent 0", "latent 3", "latent 1"]


def test_two_latents_are_shown_as_a_plane():
    m = gather(*made("vae", data_of(), latent=2))
    assert "10×10 points" in shown.traversal(m)
    assert "its two numbers as they are" in shown.latent_map(m)
    assert "first two principal components" in shown.latent_map(gather(*made("vae", data_of(), latent=3)))


def test_neighbours_are_those_of_the_embedding():
    m = gather(*made("contrastive", data_of(tests=9)))
    text = shown.neighbours(m)
    for query, alt in zip(spread(m, 8), re.findall(r'alt="([^"]*nearest to[^"]*)"', text), strict=True):
        distances = np.square(m.z - m.z[query]).sum(axis=1)
        expected = [m.label(i) for i in np.argsort(distances) if i != query][:6]
        assert alt.endswith(f"a {m.label(query)}: {', '.join(expected)}")


# --- data of every sort ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {"size": (11, 8), "channels": 3},
        {"channels": 2},
        {"channels": 4},
        {"size": (1, 30)},
        {"size": (5, 6, 4)},
        {"size": (25,)},
        {"size": (25,), "channels": 2},
        {"tests": 0},
        {"tests": 1},
        {"tests": 3},
        {"class_names": None},
    ],
    ids=str,
)
def test_data_of_every_sort(tmp_path, kind, options):
    outline = check_stands_alone(written(tmp_path, made(kind, data_of(**options))))
    assert {"In numbers", "Over the epochs", "How it was trained", KERNELS} <= set(outline.headings)
    pictured = len(options.get("size", (9, 7))) > 1
    assert ("Nearest neighbours" in outline.headings) == (pictured and options.get("tests") != 1)


@pytest.mark.parametrize("kind", ["autoencoder", "vae", "contrastive"])
def test_data_without_labels(tmp_path, kind):
    parts = made(kind, data_of(labels=False))
    parts[-1]["embedding"] = {"dimension": 4, "collapse_level": 0.5}
    text = written(tmp_path, parts)
    outline = check_stands_alone(text)
    assert set(outline.headings) == EVERY | OWN[kind] | {KERNELS}
    assert "accuracy" not in text
    assert "class" not in text.partition("<main>")[0].partition("<body>")[2].replace('class="', "")


def test_training_images_stand_in_where_none_are_held_out(tmp_path):
    text = written(tmp_path, made("autoencoder", data_of(tests=0)))
    assert "10 training images, rebuilt" in text
    assert "test images, rebuilt" not in text


def test_names_are_only_text(tmp_path):
    names = ("_<b>", 'a & "b"', "$x^$")
    text = written(tmp_path, made("classifier", data_of(name="<i>&'\"", class_names=names)))
    outline = check_stands_alone(text)
    assert not {"b", "i"} & {tag for tag, _ in outline.tags}
    assert "<title>Convolutional classifier trained on &lt;i&gt;&amp;&#x27;&quot;</title>" in text
    assert ">$x^$</text>" in text


def test_letters_that_matplotlib_lacks(tmp_path):
    assert ">数字</text>" in written(tmp_path, made("classifier", data_of(class_names=("数字", "two", "three"))))


def test_embeddings_that_are_all_alike(tmp_path):
    model, params, *rest = made("contrastive", data_of())
    params = train.place(params, np.zeros((), np.float32))
    last = params["encoder"][-1]
    last["w"] = np.zeros_like(last["w"])
    check_stands_alone(written(tmp_path, (model, params, *rest)))


def test_parameters_of_another_library(tmp_path):
    xp = pytest.importorskip("array_api_strict")
    model, params, *rest = made("vae", data_of())
    (tmp_path / "other").mkdir()
    there = train.place(params, xp.asarray(np.zeros((), np.float32)))
    assert written(tmp_path / "other", (model, there, *rest)) == written(tmp_path, (model, params, *rest))


def test_signals_are_curves(tmp_path):
    text = written(tmp_path, made("vae", data_of(size=(25,), channels=3)))
    assert text.count("The mean of 3 channels.") == 2  # reconstructions and samples
    assert "<img" not in text.partition("<h2>What the first layer")[0]
    assert "per value" in text


# --- what may be missing ---


def without(tree, path):
    key, *rest = path
    return {k: without(v, rest) if k == key and rest else v for k, v in tree.items() if k != key or rest}


def paths(tree):
    for key, value in tree.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in paths(value))


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_may_be_missing(kind):
    """Only the sections that draw nothing, or some thirty pages would take a minute; the others are asked below."""
    model, params, data, config, metrics = made(kind, data_of())
    whole = gather(model, params, data, config, metrics)
    sections = (measured.headline, measured.against_dense, measured.training)
    for path in paths(metrics):
        m = whole._replace(metrics=without(metrics, path))
        text = page.document(words.title(m), words.lead(m), [one(m) for one in sections], "")
        check_stands_alone(text)


@pytest.mark.parametrize("kind", KINDS)
def test_all_numbers_may_be_missing(tmp_path, kind):
    model, params, data, config, _ = made(kind, data_of())
    outline = check_stands_alone(written(tmp_path, (model, params, data, config, {})))
    assert not {"In numbers", "Over the epochs", "What each latent carries"} & set(outline.headings)
    assert "How it was trained" in outline.headings


def test_terms_that_some_epochs_lack(tmp_path):
    parts = made("vae", data_of())
    parts[-1]["history"] = [{"epoch": 1, "kl": 3.0, "loss": 2.0}, {"epoch": 2, "loss": 1.5, "test_loss": None}, {"loss": 1.0}]
    labels = [a.get("aria-label", "") for _, a in check_stands_alone(written(tmp_path, parts)).tags]
    assert "Loss, nats: 1.5 in training after 2 epochs." in labels
    assert not any(label.startswith("Reconstruction, nats") for label in labels)


# --- the file ---


def test_the_same_run_gives_the_same_bytes(tmp_path):
    parts = made("vae", data_of())
    assert written(tmp_path, parts) == written(tmp_path, parts)


def test_a_failure_leaves_the_old_report(tmp_path, monkeypatch):
    parts = made("classifier", data_of())
    (tmp_path / "report.html").write_text("the old one")

    def fails(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(shown, "first_layer", fails)
    with pytest.raises(OSError, match="no space"):
        write_report(Run(tmp_path), *parts)
    monkeypatch.undo()

    def fails_halfway(path, text, **_):
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError("no space left")

    monkeypatch.setattr(type(tmp_path), "write_text", fails_halfway)
    with pytest.raises(OSError, match="no space"):
        write_report(Run(tmp_path), *parts)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "the old one"


def test_size_is_bounded_where_images_are_large_and_many(tmp_path):
    """Noise in colour, which no PNG can make smaller."""
    rng = np.random.default_rng(0)
    x = rng.random((2500, 3, 64, 64), dtype=np.float32)
    data = Dataset("noise", x[:200], np.arange(200) % 10, x[200:], np.arange(2300) % 10, None)
    text = written(tmp_path, made("vae", data, channels=[8, 8, 8, 8]))
    check_stands_alone(text)
    assert len(text.encode()) < 1_500_000


@pytest.mark.parametrize("module", ["matplotlib", "PIL"])
def test_what_to_install_is_said(module):
    code = f"""
import sys
sys.modules[{module!r}] = None
from numconv.train.report import write_report
try:
    write_report(None, None, None, None, {{}}, {{}})
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"a report needs {module}: pip install 'numconv[train]'"


def test_the_door_is_cheap_to_import():
    code = "import sys, numconv.train.report; print([m for m in ('matplotlib', 'PIL', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- pictures ---


def decoded(img):
    data = re.search(r'src="data:image/png;base64,([^"]*)"', img)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_tiles_lie_in_rows():
    x = np.linspace(0, 1, 5 * 3 * 2, dtype=np.float32).reshape(5, 1, 3, 2)
    img = pictures.picture("five", pictures.tiles(x), 2)
    found = decoded(img)
    assert found.shape == (3 * 4 - 1, 2 * 3 - 1, 2)  # three rows of two, a pixel apart: grey and opacity
    for i in range(5):
        top, left = i // 2 * 4, i % 2 * 3
        np.testing.assert_array_equal(found[top : top + 3, left : left + 2, 0], np.round(255 * x[i, 0]))
    assert found[..., 1].sum() == 255 * 5 * 6  # gaps, and the place of a sixth tile, show the page
    assert 'alt="five"' in img


def test_colours_keep_their_channels():
    x = np.zeros((3, 3, 2, 2), np.float32)
    x[np.arange(3), np.arange(3)] = 1
    found = decoded(pictures.picture("red, green, blue", pictures.tiles(x), 3))
    assert [found[0, column].tolist() for column in (0, 3, 6)] == [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]]


def test_values_outside_are_clipped():
    found = pictures.tiles(np.array([-0.5, 0.5, 1.5], np.float32).reshape(1, 1, 1, 3))
    assert found[0, 0, :, 0].tolist() == [0, 128, 255]


def test_large_images_shrink_to_means_and_keep_their_form():
    x = np.zeros((1, 1, 224, 112), np.float32)
    x[:, :, ::2] = 1  # stripes finer than a pixel: grey
    found = pictures.tiles(x)
    assert found.shape == (1, 56, 28, 2)
    assert (np.abs(found[..., 0].astype(int) - 128) <= 1).all()


def test_signs_are_colours_and_strength_is_opacity():
    found = pictures.signed_tiles(np.array([-2.0, 0, 1, 4]).reshape(1, 1, 1, 4), np.array([2.0]))[0, 0]
    assert found[:, 3].tolist() == [255, 0, 128, 255]
    assert found[0, 2] > found[0, 0]  # blue
    assert found[2, 0] > found[2, 2]  # orange


def test_volumes_show_their_middle_slice():
    x = np.zeros((1, 1, 5, 2, 2), np.float32)
    x[:, :, 2] = 1
    assert (pictures.tiles(x) == 255).all()


def test_kernels_are_those_of_the_first_layer():
    m = gather(*made("autoencoder", data_of(channels=3)))
    imgs = re.findall(r"<img[^>]*kernels of the first layer on channel[^>]*>", shown.first_layer(m))
    w = m.params["encoder"][0]["w"]
    assert len(imgs) == 3
    for channel, img in enumerate(imgs):
        found = decoded(img)
        for k in range(5):
            tile = found[0:3, 4 * k : 4 * k + 3]
            np.testing.assert_array_equal(tile[..., 2] > tile[..., 0], (w[k, channel] < 0) & (tile[..., 3] > 0))


def test_feature_maps_are_the_outputs_after_the_activation():
    m = gather(*made("autoencoder", data_of(), activation="relu"))
    imgs = re.findall(r"<img[^>]*feature maps[^>]*>", shown.first_layer(m))
    x = m.x[spread(m, 4)]
    y = np.maximum(m.model.encoder.layers[0].forward(m.params["encoder"][0], x)[0], 0)
    assert len(imgs) == 4
    for i, img in enumerate(imgs):
        tile = decoded(img)[: y.shape[2], : y.shape[3]]  # the first map
        order = np.argsort(y[i, 0].ravel())
        assert (np.diff(tile[..., 3].ravel()[order].astype(int)) >= 0).all()
        assert ((tile[..., 3] > 0) <= (y[i, 0] > 0)).all()
