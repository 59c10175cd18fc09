"""Imports run one way, as docs/architecture.md draws them."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import neurobrick

TOP = Path(__file__).parents[1]

PUBLIC = {*neurobrick.__all__, "__version__"}


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """Modules that `path` imports when it runs, and the names it takes from each."""
    found = []
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []  # for the type checker alone
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, [alias.name for alias in node.names]))
    return found


def modules(package: str) -> list[Path]:
    """Its files, but for the one that lists the package's public names."""
    return sorted(p for p in (TOP / package).rglob("*.py") if p != TOP / package / "__init__.py")


def name_of(path: Path) -> str:
    """`readers.nwb` for neurobrick/readers/nwb.py."""
    parts = path.relative_to(TOP / "neurobrick").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__" or len(parts) == 1)


@pytest.mark.parametrize("package", ["neurobrick", "neurobrick_model"])
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    paths = {".".join(p.relative_to(TOP).with_suffix("").parts): p for p in modules(package)}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        full = [f"{module}.{taken}" for module, names in imports(path) for taken in names]
        graph[name] = {*full, *(module for module, _ in imports(path))} & set(paths)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", modules("neurobrick"), ids=lambda p: str(p.relative_to(TOP)))
def test_the_toolkit_knows_no_model(path: Path) -> None:
    for module, _ in imports(path):
        assert not module.startswith(("torch", "neurobrick_model")), f"{path} imports {module}"


@pytest.mark.parametrize("path", modules("neurobrick_model"), ids=lambda p: str(p.relative_to(TOP)))
def test_the_model_uses_public_names_only(path: Path) -> None:
    for module, names in imports(path):
        assert not module.startswith("neurobrick."), f"{path} imports {module}"
        if module == "neurobrick":
            assert set(names) <= PUBLIC, f"{path} imports {set(names) - PUBLIC}"


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("zarr", {"readers.zarr_codecs"}),
        ("h5py", {"readers.hdf5"}),
        ("dandi", {"sources.dandi_client", "sources.dandi"}),
        ("requests", {"sources.transport", "sources.ranges", "sources.dandi", "sources.zenodo"}),
    ],
)
def test_a_library_is_known_to_few(library: str, homes: set[str]) -> None:
    users = {
        name_of(path)
        for path in modules("neurobrick")
        if any(module.split(".")[0] == library for module, _ in imports(path))
    }
    assert users == homes


def test_public_names_are_what_the_design_says() -> None:
    for name in ("Dataset", "Session", "Slice", "Intervals", "NeurobrickError"):
        assert name in neurobrick.__all__
        assert getattr(neurobrick, name).__doc__


def test_importing_neurobrick_needs_no_torch() -> None:
    program = "import sys, neurobrick; neurobrick.Dataset; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
