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
    {"errors", "checksum"},
    {"lock"},
    {"intervals", "clock", "samples", "overlap", "finding", "filters", "interop", "storage"},
    {"readers.tree", "readers.zarr_files"},
    {"schema", "tables", "rules", "batch", "cache", "windows", "harmonize.names", "harmonize.si"},
    {"manifest", "store", "harmonize.restarts", "harmonize.ledger"},
    {"readers.hdf5", "readers.zarr_codecs", "readers.stream", "readers.raw"},
    {"readers.zarr2", "readers.dynamic_table", "readers.odoherty"},
    {"readers.nwb"},
    {"readers.formats"},
    {"readers"},
    {"sources"},
    {"sources.transport"},
    {"sources.download", "sources.ranges", "sources.dandi_client"},
    {"sources.zarr_asset"},
    {"sources.dandi", "sources.zenodo"},
    {"harmonize.spikes", "harmonize.behavior", "harmonize.columns"},
    {"harmonize"},
    {"splits", "catalog", "plan", "physics"},
    {"slices"},
    {"session"},
    {"dataset"},
    {"transfer"},
    {"pipeline", "workers", "inspection", "plots", "simulate", "validate", "verify"},
    {"prepare"},
    {"console"},
    {"describe", "summary"},
    {"cli"},
    {"__main__"},
]
MODEL_LAYERS = [
    {"labels", "chance", "rows", "files", "distributed", "stopping", "team", "tensors"},
    {"page", "metrics"},
    {"settings"},
    {"recipe", "timeline", "flops", "checkpoint", "log", "normalize", "foreign_units", "parts"},
    {"attention", "readouts", "memory", "tokens", "vocabulary", "embeddings", "efficiency"},
    {"targets"},
    {"corpus", "perceiver"},
    {"batches", "device", "optim", "evaluate", "fused", "binned"},
    {"causal", "sliding"},
    {"stream"},
    {"objective", "meter", "decoder", "ridge", "kalman", "networks", "figures", "breakdown"},
    {"fitting"},
    {"baselines"},
    {"health", "gradients", "report", "compare", "run", "card", "program", "adaptation", "origin"},
    {"score", "foreign", "export"},
    {"trainer"},
    {"console"},
    {"cli"},
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
    """Its files, but for the one that lists the package's public names."""
    return sorted(p for p in (TOP / package).rglob("*.py") if p != TOP / package / "__init__.py")


def room(name: str) -> str:
    """The entry for a dotted module: its own, or its package's, as of `simulate` and `cli`."""
    while name not in RANK:
        assert "." in name, f"tests/test_layers.py has no row for {name}"
        name = name.rpartition(".")[0]
    return name


def name_of(path: Path) -> str:
    """`readers.nwb` for neurobrick/readers/nwb.py."""
    parts = path.relative_to(TOP / "neurobrick").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__" or len(parts) == 1)


def targets(module: str, names: list[str]) -> list[str]:
    """The dotted modules that an import is of: a package's modules are imported by name, too."""
    inside = module.partition("neurobrick")[2].strip(".")
    found = [f"{inside}.{name}".strip(".") for name in names]
    modules = [name for name in found if name in RANK]
    return modules or ([inside] if inside else [])


@pytest.mark.parametrize("path", modules("neurobrick"), ids=lambda p: str(p.relative_to(TOP)))
def test_neurobrick_imports_run_one_way(path: Path) -> None:
    mine = room(name_of(path))
    for module, names in imports(path):
        assert not module.startswith(("torch", "neurobrick_model")), f"{path} imports {module}"
        if module.split(".")[0] != "neurobrick":
            continue
        for target in map(room, targets(module, names)):
            assert target == mine or RANK[target] < RANK[mine], f"{mine} imports {target}"


@pytest.mark.parametrize("path", modules("neurobrick_model"), ids=lambda p: str(p.relative_to(TOP)))
def test_the_model_uses_public_names_only(path: Path) -> None:
    for module, names in imports(path):
        assert not module.startswith("neurobrick."), f"{path} imports {module}"
        if module == "neurobrick":
            assert set(names) <= PUBLIC, f"{path} imports {set(names) - PUBLIC}"


def test_the_models_imports_run_one_way() -> None:
    rank = {name: k for k, names in enumerate(MODEL_LAYERS) for name in names}
    assert set(rank) == {path.stem for path in modules("neurobrick_model")}
    for path in modules("neurobrick_model"):
        for module, names in imports(path):
            top, _, inner = module.partition(".")
            if top != "neurobrick_model":
                continue
            for name in [inner] if inner else [n for n in names if n in rank]:
                assert rank[name] < rank[path.stem], f"{path.stem} imports {name}"


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
