"""Who imports whom: down only, and no drawer its door. Read from the source with `ast`, without importing anything."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import numconv

PACKAGE = Path(numconv.__file__).parent
ROOMS = {"conv", "pool", "pad", "unfold", "resize", "linear", "norm", "activation", "loss"}
FOUNDATIONS = {
    "_array",
    "_pullback",
    "_window",
    "_jit",
    "_simd",
    "_elementary",
    "_traced",
    "_pointwise",
    "_slab",
    "_matmul",
    "_running",
    "_cuda",
    "_nvrtc",
    "_kept",
    "_rows_cuda",
    "_cuda_formula",
    "_torch_cuda",
    "_tree",
    "_separable",
    "_axis_map",
    "_axis_map_cuda",
    "_memory",
    "_border",
    "_lend",
    "_halves",
    "_blocks",
    "_extend",
}
# Each layer may import itself and what stands below it.
LAYERS = [FOUNDATIONS, ROOMS, {"nn", "interop", "signal"}, {"train"}, {"about", "cli", "__main__"}]


def imports_of(path):
    """Names of the package's modules that a file imports, as dotted paths below the package."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    package = here[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = (*base, *(node.module or "").split(".")) if node.module else base
            for alias in node.names:
                yield module if node.module and not is_module((*module, alias.name)) else (*module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "numconv":
                    yield tuple(alias.name.split(".")[1:])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "numconv":
            yield tuple(node.module.split(".")[1:])


def is_module(parts):
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").exists()


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def level(top):
    return next(i for i, names in enumerate(LAYERS) if top in names)


def trespasses(path, imported):
    """Say what is wrong with the imports of a file, if anything."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    for target in imported:
        if not target or target == ("__version__",):  # the version is a word, not a room
            continue
        if level(target[0]) > level(here[0]):
            yield f"{here[0]} is below {target[0]}"
        if here[0] in FOUNDATIONS and target[0] not in FOUNDATIONS:
            yield f"a foundation imports {target[0]}"
        if here[0] in ROOMS and target[0] in ROOMS and target[0] != here[0] and len(target) > 1 and target[1] != "geometry":
            yield f"{here[0]} imports the inside of {target[0]}"
        in_drawer = here[0] in ROOMS and len(here) > 1 and here[1] in ("generic", "cpu", "cuda")
        if in_drawer and target[0] == here[0] and (len(target) == 1 or target[1] in {"generic", "cpu", "cuda"} - {here[1]}):
            yield f"drawer {here[1]} imports its door or another drawer"


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_imports_point_down(path):
    assert list(trespasses(path, imports_of(path))) == []


@pytest.mark.parametrize(
    ("file", "target"),
    [
        ("conv/generic.py", ("train", "loop")),
        ("conv/cpu/plan.py", ("conv",)),
        ("conv/cuda.py", ("conv", "cpu")),
        ("_array.py", ("conv",)),
        ("pool/__init__.py", ("conv", "cpu")),
    ],
)
def test_trespasses_are_seen(file, target):
    assert list(trespasses(PACKAGE / file, [target])) != []


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_rooms_are_small(path):
    """About 400 lines a file and 60 a function, docstring aside: what a reader keeps in mind."""
    text = path.read_text()
    assert text.count("\n") <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            documented = ast.get_docstring(node) is not None
            body = node.body[1:] if documented else node.body
            lines = (node.end_lineno - body[0].lineno + 1) if body else 0
            assert lines <= 60, f"{node.name} has {lines} lines"


def test_import_is_cheap():
    """`import numconv` loads none of its rooms, and `numconv --help` neither Numba nor CuPy, nor what only training needs."""
    code = "import sys, numconv; print([m for m in sys.modules if m.startswith('numconv.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
    heavy = ("numba", "cupy", "matplotlib", "sklearn", "scipy")
    code = f"import sys, numconv, numconv.cli; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_public_names_are_lazy_without_a_difference():
    """Type checkers, `from numconv import *`, `dir` and whoever asks for an attribute see the same names, of the same rooms."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If)).body
    seen = {alias.name: f".{node.module}" for node in checked for alias in node.names}
    assert seen == numconv._ROOMS
    assert sorted(seen) == numconv.__all__
    assert set(numconv.__all__) <= set(dir(numconv))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        numconv.nothing  # noqa: B018


def test_functions_go_before_rooms_of_their_name():
    code = "import numconv.conv.geometry, numconv.train, numconv; from numconv import conv, linear, resize; "
    code += "print(*(f.__module__ for f in (numconv.conv, numconv.resize, numconv.linear, conv, linear, resize)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    conv, linear, resize = "numconv.conv.forward", "numconv.linear", "numconv.resize"
    assert found == [conv, resize, linear, conv, linear, resize]


def test_public_names_are_all_there():
    for name in numconv.__all__:
        assert getattr(numconv, name).__doc__, name
        if name.endswith("_vjp"):
            assert name.removesuffix("_vjp") in numconv.__all__
