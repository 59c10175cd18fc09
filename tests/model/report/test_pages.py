"""The pages as a browser shows them, offline. Skipped where there is no chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from neurobrick_model import Recipe, Trainer
from neurobrick_model.report.comparison import compare
from tests.model.conftest import TINY
from tests.model.report.test_compare import several
from tests.support.model.fakes import FakeDataset, fake_session

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
WIDTH, HEIGHT = 1100, 1600
# Puts into the title how wide the page is, and how wide its window.
MEASURE = "<script>document.title=[document.documentElement.scrollWidth,innerWidth]</script>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run's report with every section, and a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    stores = FakeDataset(
        *(
            fake_session(f"sim/{id}", k, n_units=6).with_(subject=id, areas=("M1", "PMd") * 3)
            for k, id in enumerate("abc")
        )
    )
    recipe = Recipe.model_validate({**TINY, "name": "tiny", "runs": folder / "runs"})
    Trainer(recipe, stores).fit()  # type: ignore[arg-type]
    compare(several(folder / "runs"), folder / "comparison.html")
    return {"report": recipe.folder / "report.html", "comparison": folder / "comparison.html"}


def show(page: Path, *arguments: str) -> tuple[str, str]:
    """The page's HTML after the browser has shown it, and the messages of its console. No host name
    resolves, so that the page cannot load anything from the network."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom",
               f"--user-data-dir={page.parent / 'profile'}", f"--window-size={WIDTH},{HEIGHT}",
               *arguments, page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    messages = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(messages)


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_page_refers_to_nothing_outside_itself(pages: dict[str, Path], name: str) -> None:
    page = pages[name].read_text()
    assert "://" not in page
    assert not re.search(r"<(script|link|iframe)\b|@import", page)
    for where in re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', page):
        assert "".join(where).startswith(("#", "data:"))


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_figures_show_no_source_of_formulas(pages: dict[str, Path], name: str) -> None:
    """A session's name may hold a dollar sign, so text of figures is never read as a formula."""
    assert "$" not in pages[name].read_text()


@needs_chromium
@pytest.mark.parametrize(
    ("name", "headings"),
    [
        ("report", ["R² by session", "Movements", "Embeddings", "Training"]),
        ("comparison", ["hand_vel (m/s) of 2 sessions, 200 samples, by 4 runs"]),
    ],
)
def test_a_browser_shows_a_page_and_has_no_complaint(
    pages: dict[str, Path], name: str, headings: list[str]
) -> None:
    shot = pages[name].with_suffix(".png")
    shown, messages = show(pages[name], f"--screenshot={shot}")
    assert messages == ""
    for heading in headings:
        assert f"<h2>{heading}</h2>" in shown
    picture = imread(shot)[..., :3]
    assert picture.shape[:2] == (HEIGHT, WIDTH)
    colored = np.ptp(picture, axis=2) > 0.2  # text and frames are gray: these are the figures
    assert colored.mean() > 1e-3


@needs_chromium
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_page_does_not_scroll_sideways(pages: dict[str, Path], name: str, tmp_path: Path) -> None:
    measured = tmp_path / "measured.html"
    measured.write_text(pages[name].read_text().replace("</body>", f"{MEASURE}</body>"))
    shown, _ = show(measured, "--window-size=520,900")
    sizes = re.search(r"<title>(\d+),(\d+)</title>", shown)
    assert sizes
    assert int(sizes[1]) <= int(sizes[2])


@needs_chromium
def test_a_broken_figure_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text('<!doctype html><svg viewBox="0 0 9 9"><path d="M 1 nan"/></svg>')
    assert "Expected number" in show(page)[1]
