"""Imports run one way, as docs/architecture.md draws them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import neurobrick

TOP = Path(__file__).parents[1]

# Each module may import only from rows above its own.
LAYERS = [
    {"errors"},
    {"intervals", "clock", "cache", "si", "tree", "names", "restarts", "interop", "finding"},
    {"schema", "tables", "rules", "batch", "hdf5", "zarr3", "zarr_files", "zarr_codecs"},
    {"transport", "stream", "zarr2"},
    {"manifest", "store", "raw", "ledger", "sources", "ranges"},
    {"dynamic_table", "spikes", "behavior", "odoherty", "splits", "catalog"},
    {"download", "dandi_client"},
    {"zarr_asset"},
    {"nwb", "columns", "dataset", "dandi_source", "zenodo_source"},
    {"formats", "harmonize", "plan", "physics"},
    {"pipeline", "workers", "inspection", "plots", "simulate", "validate", "verify"},
    {"prepare"},
    {"console"},
    {"describe", "summary"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
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
    return sorted(p for p in (TOP / package).rglob("*.py") if p.name != "__init__.py")


def room(path: Path) -> str:
    """The module, or subpackage, of `neurobrick` that a file belongs to."""
    return path.relative_to(TOP / "neurobrick").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules("neurobrick"), ids=lambda p: str(p.relative_to(TOP)))
def test_neurobrick_imports_run_one_way(path: Path) -> None:
    mine = room(path)
    for module, names in imports(path):
        assert not module.startswith(("torch", "neurobrick_model")), f"{path} imports {module}"
        if module == "neurobrick":
            targets = [name for name in names if name in RANK]
        elif module.startswith("neurobrick."):
            targets = [module.split(".")[1]]
        else:
            continue
        for target in targets:
            assert target == mine or RANK[target] < RANK[mine], f"{mine} imports {target}"


@pytest.mark.parametrize("path", modules("neurobrick_model"), ids=lambda p: str(p.relative_to(TOP)))
def test_the_model_uses_public_names_only(path: Path) -> None:
    for module, names in imports(path):
        assert not module.startswith("neurobrick."), f"{path} imports {module}"
        if module == "neurobrick":
            assert set(names) <= PUBLIC, f"{path} imports {set(names) - PUBLIC}"


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("zarr", {"store", "zarr_codecs"}),
        ("h5py", {"hdf5"}),
        ("dandi", {"dandi_client", "dandi_source"}),
    ],
)
def test_a_library_is_known_to_few(library: str, homes: set[str]) -> None:
    users = {
        room(path)
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
