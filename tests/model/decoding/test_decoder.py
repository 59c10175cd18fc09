"""A folder of a decoder that is damaged or contradicts itself is an error, whatever its sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurobrick import StoreError
from neurobrick_model import Decoder
from neurobrick_model.decoding.spec import DecoderSpec
from tests.model.exchange.test_export import SPEC

HUGE = {"dim": 2**16, "depth": 2**4, "feedforward": 2**10}  # 2^47 weights
Spec = dict[str, Any]  # the content of decoder.json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Decoder(SPEC, SPEC.build()).save(tmp_path)
    return tmp_path


def of_first(spec: Spec, **changes: Any) -> Spec:
    """The spec with changes in its first session."""
    first, *others = spec["sessions"]
    return {**spec, "sessions": [{**first, **changes}, *others]}


def of_model(spec: Spec, **changes: Any) -> Spec:
    """The spec with changes in the model's sizes."""
    return {**spec, "model": {**spec["model"], **changes}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {**t, "format": 2}, r"it is of format 2, upgrade neurobrick"),
        (lambda t: of_first(t, units=-1), r"sessions\.0\.units: input should be greater than"),
        (lambda t: of_first(t, units=10**12), r"sessions\.0\.units: input should be less than"),
        (lambda t: of_first(t, units=11), r"its unit_embedding\.weight is of shape \(18, 16\), "),
        (lambda t: of_first(t, std=[1.0]), "sim/a has not one std for each axis"),
        (lambda t: of_first(t, readouts={}), "sim/a has not one mean for each axis"),
        (lambda t: {**t, "sessions": []}, "sessions: tuple should have at least 1 item"),
        (lambda t: {**t, "rate": 0}, "rate: input should be greater than 0"),
        (lambda t: of_model(t, **HUGE), "weights in .* do not fit its decoder.json: its ask.norm"),
        (lambda t: of_model(t, depth=10**9), r"model\.depth: input should be less than"),
        (lambda t: of_model(t, latent_step=1e-12), "more than 100,000 latents"),
        (lambda t: of_model(t, latent_step=1e-320), "more than 100,000 latents"),
    ],
)
def test_a_decoder_json_that_contradicts_itself_or_the_weights_is_an_error(
    folder: Path, change: Callable[[Spec], Spec], message: str
) -> None:
    spec = json.loads((folder / "decoder.json").read_text())
    (folder / "decoder.json").write_text(json.dumps(change(spec)))
    with pytest.raises(StoreError, match=message):
        Decoder.load(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"1"])
def test_a_decoder_json_of_other_content_is_an_error(folder: Path, text: bytes) -> None:
    (folder / "decoder.json").write_bytes(text)
    with pytest.raises(StoreError, match="is not a decoder of this version: all of it: "):
        DecoderSpec.read(folder)


def test_an_unreadable_file_is_not_reported_as_missing(folder: Path) -> None:
    (folder / "decoder.json").unlink()
    with pytest.raises(StoreError, match="holds no decoder"):
        DecoderSpec.read(folder)
    (folder / "decoder.json").mkdir()
    with pytest.raises(StoreError, match=r"cannot read .*decoder\.json: Is a directory"):
        DecoderSpec.read(folder)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below", Path("/proc/x/y")):
        with pytest.raises(StoreError, match="cannot make the folder"):
            Decoder(SPEC, SPEC.build()).save(folder)
