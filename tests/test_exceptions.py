"""Each exception is drawn in the tree of its module, exported, and under NeurobrickError."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

import neurobrick
import neurobrick.errors
import neurobrick_model
import neurobrick_model.errors

TREES = {neurobrick: neurobrick.errors, neurobrick_model: neurobrick_model.errors}


def drawn(module: ModuleType) -> dict[str, str]:
    """The tree in a module's docstring: each exception's parent by its name."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (module.__doc__ or "").splitlines():
        if match := re.match(r"    ([│├└─ ]*)(?:neurobrick\.)?([A-Z]\w+)(?:  |$)", line):
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            parents[match[2]] = path[depth - 1] if depth else ""
    return parents


def defined(module: ModuleType) -> dict[str, type[Exception]]:
    """The exceptions that a module defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Exception)
        if value.__module__ == module.__name__
    }


@pytest.mark.parametrize("package", TREES, ids=lambda package: package.__name__)
def test_the_drawing_is_the_tree(package: ModuleType) -> None:
    module = TREES[package]
    found = {
        name: "" if value is neurobrick.NeurobrickError else value.__bases__[0].__name__
        for name, value in defined(module).items()
    }
    assert {name: parent for name, parent in drawn(module).items() if name in found} == found
    assert set(drawn(module)) - set(found) <= {"NeurobrickError"}


@pytest.mark.parametrize("package", TREES, ids=lambda package: package.__name__)
def test_every_exception_is_exported(package: ModuleType) -> None:
    for name, value in defined(TREES[package]).items():
        assert name in package.__all__
        assert getattr(package, name) is value
        assert issubclass(value, neurobrick.NeurobrickError)


@pytest.mark.parametrize("package", TREES, ids=lambda package: package.__name__)
def test_no_exception_of_the_tree_is_defined_elsewhere(package: ModuleType) -> None:
    tree = {name for module in TREES.values() for name in defined(module)}
    top = Path(str(package.__file__)).parent
    for path in sorted(top.rglob("*.py")):
        if path == top / "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert tree.isdisjoint(ast.unparse(base).split(".")[-1] for base in node.bases), (
                    f"{path}: {node.name}"
                )
