"""Every check of the project, each in an environment that the project's own files describe: `nox` runs lint, type, test, cuda."""

import os
import shutil

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "type", "test", "cuda"]
nox.options.reuse_existing_virtualenvs = True

PROJECT = nox.project.load_toml("pyproject.toml")


def group(name):
    """Requirements of a dependency group of pyproject.toml."""
    return nox.project.dependency_groups(PROJECT, name)


@nox.session
def lint(session):
    """Style, imports, docstrings, layout."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(name="type")
def type_(session):
    """Types, strictly."""
    session.install("-e", ".[train]", *group("type"))
    session.run("mypy")


@nox.session
def test(session):
    """All tests but those of the CUDA kernels, on all cores; `nox -s test -- -k conv` for a part."""
    session.install("-e", ".[train]", *group("test"))
    session.run("pytest", "-n", "auto", "-m", "not cuda", *session.posargs, env={"MPLBACKEND": "agg"})


@nox.session
def peers(session):
    """The tests that need PyTorch or JAX, large downloads that the default run leaves out."""
    session.install("-e", ".[train]", *group("test"), *group("peers"))
    session.run("pytest", "-k", "torch or jax or docstrings", *session.posargs)


@nox.session
def cuda(session):
    """The CUDA kernels without a GPU: compiled by NVRTC, run on the CPU by the emulator, and the GPU's benchmark rehearsed."""
    session.install("-e", ".[train]", *group("test"))
    try:
        session.install(*group("cuda"))
    except nox.command.CommandFailed:
        session.warn("NVRTC CANNOT BE INSTALLED: they are run by the emulator, NOT COMPILED, no register is counted")
    if shutil.which("g++") is None:
        session.warn("g++ IS MISSING: the emulator cannot run, and its tests are skipped")
    session.run("pytest", "-n", "auto", "-m", "cuda", *session.posargs, env={"MPLBACKEND": "agg"})
    session.run("python", "-m", "bench.gpu", "--emulate", "--out", session.create_tmp())


@nox.session
def bench(session):
    """Benchmarks beside the peers: all of them write docs/benchmarks.md, a part (`-- --quick`, `-- -k filter`) prints it."""
    session.install("-e", ".", *group("bench"))
    results = os.path.join(session.create_tmp(), "results.json")
    ini = ("python_files=bench_*.py", "pythonpath=bench", "timeout=0", "filterwarnings=default")
    columns = ["--benchmark-columns=median,iqr,rounds", "--benchmark-sort=name", f"--benchmark-json={results}"]
    pytest = ["pytest", "-q", "bench", *(f"-o{setting}" for setting in ini), *columns]
    session.run(*pytest, *session.posargs, success_codes=[0, 1])  # the report names what failed, and fails
    session.run("python", os.path.join("bench", "report.py"), results, *([] if session.posargs else ["docs"]))


@nox.session
def docs(session):
    """The documentation as HTML, warnings being errors."""
    session.install("-e", ".[train]", *group("docs"))
    session.run("sphinx-build", "-W", "-b", "html", "docs", os.path.join("docs", "_build"), *session.posargs)


if __name__ == "__main__":
    nox.main()
