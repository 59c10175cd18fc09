"""An NWB group with `data` → RawSeries, and what stands beside its data.

An array with one row a sample (the confidence of a pose, control codes) becomes a series of its
own on the same clock. A short text or number becomes part of the description. Everything else is
left, each with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from neurobrick.errors import listed
from neurobrick.readers.dynamic_table import Leave
from neurobrick.readers.raw import RawSeries
from neurobrick.readers.tree import Array, Group, too_long

# Signals of the nervous system and pictures: recognized, and left. Extensions derive types of their
# own, so LEFT_MARKS names an array or link that every series of a kind has.
LEFT_TYPES = {
    "ElectricalSeries": "voltage traces",
    "SpikeEventSeries": "spike snippets",
    "DecompositionSeries": "spectral power",
    "ImageSeries": "images",
    "ImageMaskSeries": "images",
    "OpticalSeries": "images",
    "IndexSeries": "indexes of images",
    "OnePhotonSeries": "imaging",
    "TwoPhotonSeries": "imaging",
    "RoiResponseSeries": "fluorescence",
    "AnnotationSeries": "text annotations",
    "IntervalSeries": "markers of intervals",
    "CurrentClampSeries": "patch clamp",
    "CurrentClampStimulusSeries": "patch clamp",
    "VoltageClampSeries": "patch clamp",
    "VoltageClampStimulusSeries": "patch clamp",
    "IZeroClampSeries": "patch clamp",
}
LEFT_MARKS = {
    "electrodes": "voltage traces",
    "rois": "fluorescence",
    "imaging_plane": "imaging",
    "external_file": "images",
    "bands": "spectral power",
    "electrode": "patch clamp",
}
MAX_COMPANIONS = 100  # arrays beside the data of one series
MAX_WORDS = 300  # letters of one text that goes into a description
MAX_CODES = 256  # named codes of one series

CLOCK = frozenset({"timestamps", "starting_time"})
# Attributes that RawSeries has as fields, or that say how the file is organized.
READ_ATTRIBUTES = frozenset(
    {"unit", "conversion", "offset", "description", "comments", "labels", "rate", "interval"}
)
FORMAT_ATTRIBUTES = frozenset(
    {
        "neurodata_type", "namespace", "object_id", "ancestry", "help", "source", "nwb_sid",
        "_ARRAY_DIMENSIONS", "_DTYPE", "_LINKS", "_SCALAR", "zarr_dtype", "zarr_link",
        "CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST",
    }
)  # fmt: skip


def reason_to_leave(group: Group, path: str, names: set[str]) -> str | None:
    """Why the series in `group` is not kept; None when it is."""
    mark = next((why for name, why in LEFT_MARKS.items() if name in names), None)
    reason = LEFT_TYPES.get(str(group.attribute("neurodata_type", ""))) or mark
    if reason is not None:
        return reason
    if path.startswith("stimulus/"):
        return "a stimulus"
    data, stamps = group.array("data"), group.array("timestamps")
    if data is None or ("timestamps" in names and stamps is None):
        return "its data or timestamps are in another file, not followed"
    if not names & CLOCK:
        return "data without times"
    if stamps is not None and stamps.kind != "number":
        return "its timestamps are not numeric"
    if stamps is not None and (n_lost := stamps.unwritten()):
        return f"its timestamps lack {n_lost} chunks"
    return _fault(data)


def _fault(data: Array) -> str | None:
    """Why `data` cannot be a behavior."""
    if data.kind != "number":
        return "not numeric"
    if len(data.shape) not in (1, 2, 3):
        return f"{len(data.shape)}-dimensional"
    if 0 in data.shape:
        return "empty"
    return None


def read_series(group: Group, path: str, names: set[str], leave: Leave) -> list[RawSeries]:
    """The series in `group`, then the arrays beside its data that have one row a sample.

    The caller has made sure that `reason_to_leave` is None.
    """
    data = group.array("data")
    assert data is not None
    clock = _clock(group)
    companions, words = [], _attribute_words(group, data, path, leave)
    beside = sorted(names - CLOCK - {"data", "control_description"})
    for name in beside[:MAX_COMPANIONS]:
        array = None if too_long(name) else group.array(name)
        if array is not None and (text := _words(array)):
            words.append(f"{name}: {text}")
        elif array is not None and _has_row_per_sample(array, data):
            codes = _control_codes(group) if name == "control" else []
            companions.append(_companion(array, f"{path}/{name}", path, clock, codes))
        else:
            leave(f"{path}/{name[:40]}", _why_not(group, name, array))
    if len(beside) > MAX_COMPANIONS:
        leave(path, f"{len(beside) - MAX_COMPANIONS:,} more arrays beside its data")
    if "control_description" in names and "control" not in names:
        leave(f"{path}/control_description", "names of control codes, without the codes")
    words += _code_words(data.attributes("labels"))
    series = RawSeries(
        path=path,
        type=str(group.attribute("neurodata_type", "")),
        shape=data.shape,
        unit=str(data.attribute("unit", "")),
        conversion=number(data.attribute("conversion", 1.0), np.nan),
        offset=number(data.attribute("offset", 0.0), np.nan),
        description=_sentence(str(group.attribute("description", "")), words),
        comments=str(group.attribute("comments", "")),
        data=data.read,
        arrays=(data, *clock["arrays"]),
        **clock["fields"],
    )
    return [series, *companions]


def _clock(group: Group) -> dict[str, Any]:
    """`fields` of RawSeries that say when its samples are, and the `arrays` they are read from."""
    stamps = group.array("timestamps")
    if stamps is not None:
        fields: dict[str, Any] = {
            "timestamps": lambda: np.asarray(stamps.read(), dtype=np.float64),
            "time_unit": str(stamps.attribute("unit", "")),
        }
        return {"fields": fields, "arrays": (stamps,)}
    start = group.array("starting_time")
    if start is None or start.kind != "number":
        return {"fields": {"rate": np.nan, "starting_time": 0.0}, "arrays": ()}
    values = start.read().reshape(-1)
    fields = {
        "rate": number(start.attribute("rate", np.nan), np.nan),
        "starting_time": number(values[0].item(), np.nan) if len(values) else 0.0,
        "time_unit": str(start.attribute("unit", "")),
    }
    return {"fields": fields, "arrays": ()}


def _companion(
    array: Array, path: str, beside: str, clock: dict[str, Any], codes: Sequence[str]
) -> RawSeries:
    """An array beside the data of the series at `beside`, as a series on the same clock."""
    words = [
        str(array.attribute(name, "")) for name in ("description", "definition")
    ] + _code_words(codes)
    return RawSeries(
        path=path,
        type=str(array.attribute("neurodata_type", "")),
        shape=array.shape,
        unit=str(array.attribute("unit", "")),
        conversion=number(array.attribute("conversion", 1.0), np.nan),
        offset=number(array.attribute("offset", 0.0), np.nan),
        description=_sentence(f"beside the data of {beside}", words),
        beside=beside,
        data=array.read,
        arrays=(array, *clock["arrays"]),
        **clock["fields"],
    )


def _has_row_per_sample(array: Array, data: Array) -> bool:
    return _fault(array) is None and array.shape[0] == data.shape[0]


def _why_not(group: Group, name: str, array: Array | None) -> str:
    """Why the entry `name` of a series group is neither a companion nor part of the description."""
    if too_long(name):
        return f"its name has {len(name):,} letters"
    if (target := group.link(name)) is not None:
        return target
    if array is None:
        kind = "a group" if group.group(name) is not None else "an object in another file"
        return f"{kind} beside the data of a series"
    held = f"{array.kind}, {' × '.join(map(str, array.shape)) or 'one value'}"
    return f"beside the data of a series, without one row a sample ({held})"


def _words(array: Array) -> str:
    """The one short text or number that `array` holds; "" when it holds anything else."""
    if prod(array.shape) != 1 or array.kind not in ("text", "number"):
        return ""
    text = array.texts()[0] if array.kind == "text" else str(array.read().reshape(-1)[0].item())
    return text if len(text) <= MAX_WORDS else ""


def _attribute_words(group: Group, data: Array, path: str, leave: Leave) -> list[str]:
    """Attributes of the group and of its data that RawSeries has no field for, as `name: value`."""
    words = []
    for holder, at in ((group, path), (data, f"{path}/data")):
        known = READ_ATTRIBUTES | FORMAT_ATTRIBUTES
        for name in sorted(set(holder.attribute_names()) - known):
            values = holder.attributes(name)
            text = listed(values)
            if not values or _says_nothing(name, text):
                continue
            if len(name) + len(text) <= MAX_WORDS:
                words.append(f"{name}: {text}")
            else:
                leave(f"{at} ({name[:40]})", f"an attribute of {len(text):,} letters")
    return words


def _says_nothing(name: str, text: str) -> bool:
    """Whether an attribute has the value that writers give it when nothing is known."""
    if name == "resolution":
        return text in ("-1", "-1.0", "0", "0.0", "nan")
    return name == "continuity" and text == "continuous"


def _control_codes(group: Group) -> list[str]:
    """`control_description`: the name of each control code, by its number."""
    names = group.array("control_description")
    if names is None or names.kind != "text" or prod(names.shape) > MAX_CODES:
        return []
    return names.texts()


def _code_words(names: Sequence[str]) -> list[str]:
    """What each code stands for: `0 = left, 1 = right`."""
    codes = ", ".join(f"{code} = {name}" for code, name in enumerate(names[:MAX_CODES]))
    return [f"codes: {codes}"] if codes else []


def _sentence(description: str, words: Iterable[str]) -> str:
    return "; ".join(part for part in (description, *words) if part)


def number(value: object, otherwise: float) -> float:
    """`value` as a float when it is a number that a float can hold, else `otherwise`."""
    try:
        return float(value) if isinstance(value, int | float) else otherwise
    except OverflowError:
        return otherwise
