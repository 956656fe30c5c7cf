"""Trees of arrays: tuples and dicts, nested, with arrays at the leaves. Parameters, gradients and optimiser states are trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Tree = Any


def tree_map(f: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply `f` leaf by leaf to trees of one structure."""
    if isinstance(tree, tuple):
        return tuple(tree_map(f, *branches) for branches in zip(tree, *rest, strict=True))
    if isinstance(tree, dict):
        return {key: tree_map(f, branch, *(other[key] for other in rest)) for key, branch in tree.items()}
    return f(tree, *rest)


def leaves(tree: Tree) -> Iterator[Any]:
    """Yield the leaves in order."""
    return (leaf for _, leaf in named_leaves(tree))


def named_leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(name, leaf)` in order; a name is the path to the leaf, such as `encoder.0.w`."""
    if isinstance(tree, (tuple, dict)):
        for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from named_leaves(branch, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


def from_named_leaves(like: Tree, named: dict[str, Any], prefix: str = "") -> Tree:
    """Rebuild a tree of the structure of `like` from its named leaves: the inverse of `named_leaves`."""
    if isinstance(like, tuple):
        return tuple(from_named_leaves(branch, named, f"{prefix}.{i}" if prefix else str(i)) for i, branch in enumerate(like))
    if isinstance(like, dict):
        return {key: from_named_leaves(branch, named, f"{prefix}.{key}" if prefix else str(key)) for key, branch in like.items()}
    return named[prefix]
