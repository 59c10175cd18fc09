"""Imports run one way, as docs/architecture.md draws them, and each library is known to few."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import neurobrick

TOP = Path(__file__).parents[1]
PUBLIC = {*neurobrick.__all__, "__version__"}

# A package, or a module beside the packages, imports only from rows below its own.
LAYERS = {
    "neurobrick": [
        {"__main__"},
        {"cli"},
        {"display"},
        {"prepare"},
        {"checks", "dataset", "harmonize", "transfer"},
        {"catalog", "readers", "splits"},
        {"registry"},
        {"sources", "store"},
        {"interval_rule", "schema", "storage"},
        {"clock", "errors", "intervals", "progress", "simulate", "tables"},
    ],
    "neurobrick_model": [
        {"cli"},
        {"console", "exchange"},
        {"training"},
        {"report"},
        {"baselines"},
        {"adaptation", "evaluation"},
        {"decoding"},
        {"model"},
        {"data"},
        {"compute", "files", "randomness", "recipe"},
        {"errors"},
    ],
}
# A library is imported by these packages and modules, and by no other.
LIBRARIES = {
    "boto3": {"neurobrick.storage.remote"},
    "botocore": {"neurobrick.storage.remote"},
    "numcodecs": {
        "neurobrick.storage.blosc",
        "neurobrick.readers.zarr.codecs",
        "neurobrick.readers.zarr.v3_chunks",
        "neurobrick.prepare.workers",
    },
    "obstore": {"neurobrick.storage.remote"},
    "requests": {"neurobrick.sources"},
    "urllib3": {"neurobrick.sources.web.transport"},
    "dandi": {"neurobrick.sources.dandi", "neurobrick.sources.dandi_client"},
    "zarr": {"neurobrick.readers.zarr.v2"},
    "h5py": {"neurobrick.readers.hdf5"},
    "pynwb": {"neurobrick.simulate.layouts"},
    "jinja2": {"neurobrick_model.exchange.model_card", "neurobrick_model.report.html"},
    "click": {"neurobrick.cli", "neurobrick_model.cli"},
    "matplotlib": {"neurobrick.display.plots", "neurobrick_model.report.figures"},
    "tensorboard": {"neurobrick_model.training.output.curves"},
    "torch.utils.tensorboard": {"neurobrick_model.training.output.curves"},
}
MOST_SIDE_BY_SIDE = 12  # modules of a package; a package's own subpackages are not counted
MOST_LOOSE = 10  # modules beside the packages


def modules(package: str) -> dict[str, Path]:
    """The files of a package by dotted name, without the list of its public names."""
    paths = sorted((TOP / package).rglob("*.py"))
    named = {".".join(p.relative_to(TOP).with_suffix("").parts): p for p in paths}
    named = {name.removesuffix(".__init__"): path for name, path in named.items()}
    return {name: path for name, path in named.items() if name != package}


MODULES = {package: modules(package) for package in LAYERS}
ALL = {name: path for named in MODULES.values() for name, path in named.items()}


@cache
def imports(path: Path) -> list[tuple[str, str]]:
    """Each import in a file, those for the type checker too: the module, and the name taken from it
    ("" for the module itself)."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found += [(str(node.module), alias.name) for alias in node.names]
    return found


def imported_modules(path: Path) -> set[str]:
    """The modules of this project that a file imports."""
    whole = {
        full if (full := f"{module}.{name}") in ALL else module for module, name in imports(path)
    }
    return whole & set(ALL)


@pytest.mark.parametrize("package", LAYERS)
def test_every_package_has_its_row(package: str) -> None:
    assert sorted(name for row in LAYERS[package] for name in row) == sorted(
        {name.split(".")[1] for name in MODULES[package]}
    )


@pytest.mark.parametrize("name", ALL)
def test_imports_run_downwards(name: str) -> None:
    package, room = name.split(".")[:2]
    rank = {one: k for k, row in enumerate(LAYERS[package]) for one in row}
    for module in imported_modules(ALL[name]):
        if module.split(".")[0] == package and (target := module.split(".")[1]) != room:
            assert rank[target] > rank[room], f"{name} imports {module}"


@pytest.mark.parametrize("package", LAYERS)
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    graph = {name: imported_modules(path) for name, path in MODULES[package].items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("name", MODULES["neurobrick"])
def test_the_toolkit_knows_no_model(name: str) -> None:
    tops = {module.split(".")[0] for module, _ in imports(ALL[name])}
    assert tops.isdisjoint({"torch", "neurobrick_model"})


@pytest.mark.parametrize("name", MODULES["neurobrick_model"])
def test_the_model_uses_public_names_only(name: str) -> None:
    for module, taken in imports(ALL[name]):
        assert not module.startswith("neurobrick.") or module == "neurobrick.errors", (
            f"{name} imports {module}"
        )
        if module == "neurobrick" and taken:
            assert taken in PUBLIC, f"{name} imports {taken}"


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_known_to_few(library: str) -> None:
    homes = LIBRARIES[library]
    users = {
        name
        for name, path in ALL.items()
        if any(f"{module}.".startswith(f"{library}.") for module, _ in imports(path))
    }
    at_home = {home: [u for u in users if u == home or u.startswith(f"{home}.")] for home in homes}
    assert users == {user for found in at_home.values() for user in found}
    assert all(at_home.values()), "a home that does not know its library"


@pytest.mark.parametrize("package", LAYERS)
def test_a_folder_is_read_at_a_glance(package: str) -> None:
    files = [p for p in (TOP / package).rglob("*.py") if p.name != "__init__.py"]
    counts = Counter(path.parent for path in files)
    assert counts.pop(TOP / package) <= MOST_LOOSE
    assert {folder for folder, n in counts.items() if n > MOST_SIDE_BY_SIDE} == set()


@pytest.mark.slow
def test_importing_neurobrick_needs_no_torch() -> None:
    program = "import sys, neurobrick; neurobrick.Dataset; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
