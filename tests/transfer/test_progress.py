"""A push and a pull report their bytes and sessions as every other work does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from neurobrick import Dataset, Progress
from neurobrick.transfer import Copy, pull, push
from tests.support.buckets import Bucket


class Recorded(Progress):
    """Counts what it is given."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.copies: list[object] = []

    def total(self, stage: str, amount: int) -> None:
        self.totals[stage] += amount

    def advance(self, stage: str, amount: int = 1, state: str = "") -> None:
        self.done[stage] += amount

    def finished(self, item: object) -> None:
        self.copies.append(item)


def size(copies: list[Copy]) -> int:
    return sum(copy.size for copy in copies)


@pytest.mark.slow
def test_bytes_and_sessions_are_counted(s3: Bucket, corpus: Dataset, tmp_path: Path) -> None:
    chosen = corpus.sessions[:2]
    pushed, pulled, again = Recorded(), Recorded(), Recorded()
    sent = push(Path(corpus.root), s3.url, chosen, pushed)
    fetched = pull(s3.url, tmp_path, chosen, pulled)
    assert size(sent) == size(fetched) > 0
    for progress, copies in ((pushed, sent), (pulled, fetched)):
        assert progress.totals == progress.done == {"copying": size(copies)}
        assert progress.copies == copies
    pull(s3.url, tmp_path, chosen, again)
    assert again.done == {}
    assert [copy.status for copy in again.copies if isinstance(copy, Copy)] == ["unchanged"] * 2
