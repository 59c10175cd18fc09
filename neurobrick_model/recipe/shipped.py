"""The recipes that neurobrick ships, by name: `own` is recipes/own.yaml."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from neurobrick import RecipeError
from neurobrick.errors import listed

SUFFIX = ".yaml"


def shipped() -> dict[str, Path]:
    """The files of the shipped recipes by name, sorted."""
    return {path.stem: path for path in sorted(_folder().glob(f"*{SUFFIX}"))}


def find(name: str) -> Path:
    """The recipe `name`: a file with that path, or else the shipped recipe with that name.

    Raises RecipeError when there is neither, with names that are spelled alike.
    """
    path = Path(name)
    if path.is_file():
        return path
    recipes = shipped()
    if name in recipes:
        return recipes[name]
    close = difflib.get_close_matches(path.stem, recipes, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {listed(recipes)}"
    kind = "is a folder" if path.is_dir() else "there is no such file"
    raise RecipeError(f"{name} is no recipe: {kind}, and no shipped recipe has this name; {hint}")


def headline(path: Path) -> str:
    """What a recipe is for, in one line: its first comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def _folder() -> Path:
    """The recipes inside the wheel, or at the top of a source checkout."""
    packaged = Path(str(resources.files("neurobrick_model"))) / "recipes"
    return packaged if packaged.is_dir() else packaged.parents[1] / "recipes"
