"""The command line as a user meets it: runs that end well, runs that are stopped, and input it cannot use."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from numconv.cli import main

QUICK = ["--epochs", "2", "--channels", "4", "--latent", "3", "--limit", "200"]


def fails(capsys, *argv, code=2):
    """Run the command line, expect a failure, and return the one line it says."""
    capsys.readouterr()  # what earlier commands of the test have said
    assert main([str(a) for a in argv]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("numconv: error: ")
    return lines[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A file of 60 small images of two kinds, with labels."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.random((60, 9, 7)) * 0.3 + np.where(y[:, None, None] == 0, np.linspace(0, 0.6, 7), np.linspace(0, 0.6, 9)[:, None])
    path = tmp_path_factory.mktemp("images") / "stripes.npz"
    np.savez(path, x=x.astype(np.float32), y=y)
    return path


@pytest.mark.parametrize("kind", ["autoencoder", "vae", "contrastive", "classifier"])
def test_a_run_leaves_everything_that_was_promised(kind, tmp_path, capsys, images):
    out = tmp_path / "run"
    assert main(["train", kind, "--data", str(images), "--out", str(out), "--batch", "16", "--epochs", "2", "--latent", "3"]) == 0
    assert f"look at {out / 'report.html'}" in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {"config.json", "model.safetensors", "metrics.json", "report.html"}
    metrics = json.loads((out / "metrics.json").read_text())
    wanted = {
        "autoencoder": {"mse", "psnr_db", "mse_pca"},
        "vae": {"mse", "elbo_nats", "reconstruction_nats", "kl_nats", "active_units", "bernoulli_floor_nats"},
        "contrastive": {"loss", "chance"},
        "classifier": {"accuracy", "accuracy_dense", "parameters_dense", "confusion"},
    }[kind]
    assert wanted <= metrics["test"].keys()
    assert {"knn_accuracy", "knn_accuracy_pca", "knn_accuracy_pixels", "collapse_level", "protocol"} <= metrics[
        "embedding"
    ].keys()
    assert [row["epoch"] for row in metrics["history"]] == [1, 2]
    assert metrics["images_per_second"] > 0
    assert ("kl_per_latent" in metrics) == (kind == "vae")


def test_embed_gives_a_vector_per_image(tmp_path, capsys, images):
    run, out = tmp_path / "run", tmp_path / "deep" / "z.npy"
    assert (
        main(
            ["train", "autoencoder", "--data", str(images), "--out", str(run), "--batch", "16", "--epochs", "1", "--latent", "3"]
        )
        == 0
    )
    assert main(["embed", str(run), str(images), "--out", str(out)]) == 0
    z = np.load(out)
    assert (z.shape, z.dtype) == ((60, 3), np.float32)
    assert np.all(np.isfinite(z))
    assert "exists; choose another name" in fails(capsys, "embed", run, images, "--out", out)
    assert main(["embed", str(run), str(images), "--out", str(out), "--force"]) == 0
    assert "images of 1 x 8 x 8; the model of" in fails(capsys, "embed", run, "digits", "--out", tmp_path / "other.npy")
    assert "needed a name that ends in .npy" in fails(capsys, "embed", run, images, "--out", tmp_path / "z.csv")
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").exists()


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert main(["train", "vae", *QUICK, "--seed", seed, "--out", str(tmp_path / name)]) == 0
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for child processes")
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_bit_for_bit(tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    options = ["--epochs", "400", "--limit", "300", "--channels", "4", "--latent", "3", "--batch", "50", "--rate", "0.01"]
    # A shell's background jobs, and what they start, ignore SIGINT; here it must be heard.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from numconv.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "train", "autoencoder", *options, "--out", str(stopped)]
    environment = {**os.environ, "MPLBACKEND": "agg"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 240
    while not (stopped / "model.safetensors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while process.poll() is None:  # Python drops an interrupt that comes while it calls a finalizer: press again, as one does
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=6)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, (out, err)
    assert f"go on with: numconv train autoencoder --resume --out {stopped}" in err
    assert "Traceback" not in err
    assert main(["train", "autoencoder", "--resume", "--out", str(stopped)]) == 0
    assert main(["train", "autoencoder", *options, "--out", str(whole)]) == 0
    a, b = (load_file(folder / "model.safetensors") for folder in (stopped, whole))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    histories = [json.loads((folder / "metrics.json").read_text())["history"] for folder in (stopped, whole)]
    assert [row["loss"] for row in histories[0]] == [row["loss"] for row in histories[1]]


def test_resume_of_a_finished_run_measures_it_again(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "autoencoder", *QUICK, "--out", str(out)]) == 0
    before = json.loads((out / "metrics.json").read_text())["test"]
    assert main(["train", "autoencoder", "--resume", "--out", str(out)]) == 0
    assert json.loads((out / "metrics.json").read_text())["test"] == before
    message = fails(capsys, "train", "autoencoder", "--resume", "--out", out, "--latent", "5")
    assert "latent is 3 there, not 5" in message
    assert "is a run of kind autoencoder; vae was asked for" in fails(capsys, "train", "vae", "--resume", "--out", out)


def test_a_history_beyond_the_weights_is_forgotten(tmp_path):
    """Numbers are written before weights, and a crash may fall between: what the weights have not reached must not stay."""
    out = tmp_path / "run"
    assert main(["train", "autoencoder", *QUICK, "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    last = metrics["history"][-1]
    metrics["history"].append({**last, "epoch": 3, "step": last["step"] + 3})
    (out / "metrics.json").write_text(json.dumps(metrics))
    assert main(["train", "autoencoder", "--resume", "--out", str(out)]) == 0
    assert [row["epoch"] for row in json.loads((out / "metrics.json").read_text())["history"]] == [1, 2]


def test_large_data_is_seen_fewer_times_by_default():
    from numconv.train.pipeline import default_epochs

    assert [default_epochs("vae", samples) for samples in (1400, 60_000, 10**7)] == [30, 4, 2]


def test_a_loss_that_is_not_finite_is_named_with_its_step(tmp_path, capsys):
    message = fails(capsys, "train", "autoencoder", *QUICK, "--rate", "1e30", "--out", tmp_path / "run", code=1)
    assert "step" in message
    assert "epoch" in message


BAD = [
    (["--latent", "0"], "latent=0; needed a whole number of at least 1"),
    (["--epochs", "0"], "epochs=0; needed"),
    (["--batch", "5000"], "batch_size=5000, but there are only 1400 samples"),
    (["--limit", "0"], "limit=0; needed at least 1 image"),
    (["--data", "no/such/folder"], "'no/such/folder' is no file or folder, nor a data set"),
    (["--device", "cuda"], "--device cuda"),
    (["--resume"], "--resume needs --out"),
    (["--rate", "-1"], "learning_rate=-1.0; needed a number above 0"),
    (["--beta", "2"], "autoencoder has no beta"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[" ".join(options) for options, _ in BAD])
def test_bad_options_are_refused_in_one_line_and_leave_nothing(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, "train", "autoencoder", *options)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_in_use_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert "already holds 1 file(s)" in fails(capsys, "train", "vae", "--out", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_and_missing_labels_are_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in fails(capsys, "train", "vae", "--data", tmp_path / "empty", "--out", tmp_path / "run")
    np.save(tmp_path / "x.npy", np.zeros((30, 8, 8), np.float32))
    message = fails(capsys, "train", "classifier", "--data", tmp_path / "x.npy", "--out", tmp_path / "run")
    assert "a classifier needs labels, and data set 'x.npy' has none" in message
    assert not (tmp_path / "run").exists()


def test_options_that_say_how_data_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("film.npy", np.random.default_rng(0).integers(-2000, 3000, (30, 8, 9)))
    assert "scale=(black, white)" in fails(capsys, "train", "autoencoder", "--data", "film.npy", "--out", "run")
    options = ["--data", "film.npy", "--scale", "-2000", "3000", "--layout", "nhw"]
    assert main(["train", "autoencoder", *options, "--batch", "8", "--epochs", "1", "--out", "run"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["source"]["data"] == str(tmp_path / "film.npy")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", "autoencoder", "--resume", "--out", "../run"]) == 0
    assert main(["embed", "../run", "../film.npy", "--scale", "-2000", "3000", "--out", "z.npy"]) == 0
    assert len(np.load("z.npy")) == 30


def test_commands_on_what_is_no_run(tmp_path, capsys):
    assert "no such run folder" in fails(capsys, "report", tmp_path / "nothing")
    assert "holds no config.json" in fails(capsys, "embed", tmp_path, "digits", "--out", tmp_path / "z.npy")


def test_info_names_versions_and_data(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "numba" in out
    assert "digits (here)" in out


def test_version_and_help(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as stop:
            main([option])
        assert stop.value.code == 0
    assert "numconv" in capsys.readouterr().out
