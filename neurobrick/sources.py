"""Where files come from: one version of a dandiset, or files on this machine.

A source lists its assets and fetches them one at a time. What `fetch` returns is whole: the bytes
arrive in a `.part` beside their place, are compared with the archive's digest, and only then are
renamed into it. A fetch that breaks off goes on where it stopped, in this run or in a later one.

The client's exceptions, and those of requests beneath it, become SourceError here and nowhere else.
No message holds a key or a signed address. dandi itself is imported when a DandiSource is made,
because that takes most of a second.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, RetryError

from neurobrick.errors import SourceError

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient

API_VARIABLE = "NEUROBRICK_DANDI_API"
KEY_VARIABLE = "DANDI_API_KEY"

_BLOCK = 1 << 18  # bytes read at a time, and the most that a connection that breaks off costs
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_BROKEN_OFF = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Asset:
    """A file that a source has. `path` is relative, with `/` between its parts."""

    path: str
    size: int  # bytes
    location: str  # where the bytes are: an absolute path, or the address to download from
    asset_id: str | None = None
    sha256: str | None = None
    etag: str | None = None  # "dandi-etag": on a fresh draft there is no other digest yet
    dandiset: str | None = None
    version: str | None = None


def _unwatched(_: int) -> None:
    pass


class Source(Protocol):
    """Somewhere files come from. `dataset` is the first part of the ids of their sessions."""

    dataset: str

    def assets(self) -> list[Asset]:
        """The NWB files, sorted by path (local ones in the order they were given)."""
        ...

    def others(self) -> list[Asset]:
        """What is there beside them: not NWB, or NWB kept as Zarr, which is not read yet."""
        ...

    def fetch(self, asset: Asset, folder: Path, progress: Progress = _unwatched) -> Path:
        """A path where all of the asset's bytes are, verified; under `folder` if it had to be made.

        `progress` is told each number of bytes gained, and a negative one when bytes turn out to
        be wrong: what it was told adds up to the asset's size. Several threads may call this,
        for different assets. Raises SourceError.
        """
        ...


def select(assets: Sequence[Asset], include: Sequence[str], exclude: Sequence[str]) -> list[Asset]:
    """The assets whose path matches a glob of `include` (none given: all) and none of `exclude`.

    Globs are the archive's: they match the whole path, ignore case, and know only `*`, which
    crosses `/`.
    """
    included, excluded = [_glob(g) for g in include], [_glob(g) for g in exclude]
    return [
        asset
        for asset in assets
        if (not included or any(glob.fullmatch(asset.path) for glob in included))
        and not any(glob.fullmatch(asset.path) for glob in excluded)
    ]


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.IGNORECASE | re.DOTALL)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LocalSource:
    """Files and folders of this machine; folders are searched for `*.nwb` at any depth.

    An asset's path is relative to the folder that was given, or the name of the file that was.
    Names that begin with a dot are passed over. Raises SourceError for a path that does not exist.
    """

    def __init__(self, paths: Sequence[str | Path], dataset: str = "local") -> None:
        self.dataset = dataset
        self._assets: list[Asset] = []
        self._others: list[Asset] = []
        found: dict[Path, str] = {}
        for name, file in (pair for path in paths for pair in _files(Path(path))):
            found.setdefault(file.absolute(), name)
        for file, name in found.items():
            # A link to nowhere is listed, and refused by fetch: a clone lacks some of its files.
            there = file.is_file()
            asset = Asset(name, file.stat().st_size if there else 0, str(file))
            is_nwb = file.suffix.lower() == ".nwb" and (there or file.is_symlink())
            (self._assets if is_nwb else self._others).append(asset)

    def assets(self) -> list[Asset]:
        return list(self._assets)

    def others(self) -> list[Asset]:
        return list(self._others)

    def fetch(self, asset: Asset, folder: Path, progress: Progress = _unwatched) -> Path:
        path = Path(asset.location)
        if not path.is_file():
            hint = "a link to nowhere: `datalad get` it" if path.is_symlink() else "it is gone"
            raise SourceError(f"{path} cannot be read: {hint}")
        progress(asset.size)
        return path


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, file) of what lies at or under `path`, sorted; a Zarr counts as one file."""
    if not path.exists():
        raise SourceError(f"{path} is neither a file nor a folder here: check the path")
    if path.is_file() or _is_zarr(path.name):
        yield path.name, path
        return

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be listed: {error.strerror}")

    found: list[Path] = []
    for parent, folders, files in os.walk(path, onerror=refuse):
        zarrs = [name for name in folders if _is_zarr(name)]
        folders[:] = [n for n in folders if not n.startswith(".") and n not in zarrs]
        found += [Path(parent, n) for n in (*files, *zarrs) if not n.startswith(".")]
    yield from sorted((file.relative_to(path).as_posix(), file) for file in found)


def _is_zarr(folder: str) -> bool:
    return folder.lower().endswith((".zarr", ".nwb"))


@dataclass(frozen=True)
class Patience:
    """How long an archive is waited for, in seconds, and how often it is asked again."""

    timeout: float = 30.0  # without a byte
    retries: int = 4
    first_wait: float = 0.5  # doubled each time
    longest_wait: float = 30.0

    def waits(self) -> Iterator[float]:
        return (min(self.first_wait * 2**n, self.longest_wait) for n in range(self.retries))


class _Transport(HTTPAdapter):
    """The time-outs that the client's session lacks, and shorter retries than the client's own.

    The client repeats a failed call 12 times in 53 s, but it lets a RetryError pass: that is what
    ends the retries here.
    """

    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self._patience = patience

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        timeout = timeout or self._patience.timeout
        for wait in (*self._patience.waits(), None):
            try:
                response = super().send(request, stream, timeout, verify, cert, proxies)
                if not stream:
                    response.content  # noqa: B018 (a body that breaks off is asked for again, too)
            except _BROKEN_OFF as error:
                reason = _cause(error)
                if isinstance(error, requests.Timeout) and not stream:
                    break  # it had its time; a download is worth waiting for longer
            else:
                if response.status_code not in _TRANSIENT:
                    return response
                reason = f"it answers {response.status_code}"
                response.close()
            if wait is not None:
                time.sleep(wait)
        raise RetryError(f"{urlsplit(str(request.url)).hostname}: {reason}", request=request)


def _cause(error: Exception) -> str:
    """The last words of a nest of network exceptions: the others quote the whole address."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    return str(inner.args[-1] if getattr(inner, "args", ()) else inner).rpartition(": ")[2]


class DandiSource:
    """One version of a dandiset, in a DANDI archive.

    `dandiset` is its number ("000128"). `version` None means the newest published one, or the draft
    where none is; `.version` says which it became. `instance` is the address of the archive's
    API, with or without `/api`; without it, the variable NEUROBRICK_DANDI_API, else the public
    archive. `token` is a key for embargoed dandisets, else DANDI_API_KEY; nothing is ever asked
    for on standard input. `.url`, `.title`, `.licence`, `.citation` tell what it is.

    Raises SourceError: no such dandiset or version, no access, no answer.
    """

    def __init__(
        self,
        dandiset: str,
        version: str | None = None,
        instance: str | None = None,
        token: str | None = None,
        *,
        patience: Patience = Patience(),
    ) -> None:
        if not re.fullmatch("[0-9]{6}", dandiset):
            raise SourceError(f"a dandiset is named by six digits, as 000128 is; got {dandiset!r}")
        self.dataset = dandiset
        self.url = _api_url(instance or os.environ.get(API_VARIABLE))
        self._patience = patience
        self._client = _client(self.url, patience)
        key = (token or os.environ.get(KEY_VARIABLE, "")).strip()
        self._has_key = bool(key)
        with self._reported(f"no DANDI API is at {self.url}: check the address"):
            _check_server(self._client)
        if key:
            with self._reported(f"{self.url} takes no keys"):
                self._client.authenticate(key)
        absent = f"dandiset {dandiset} is not in the archive at {self.url}: check the number"
        with self._reported(absent):
            remote = self._client.get_dandiset(dandiset, lazy=False)
            if version is not None:
                known = sorted(v.identifier for v in remote.get_versions())
                if version not in known:
                    raise SourceError(
                        f"dandiset {dandiset} has no version {version} in the archive at "
                        f"{self.url}: it has {', '.join(known)}"
                    )
            self.version = version or str(remote.version_id)
            about = self._client.get_dandiset(dandiset, self.version).get_raw_metadata()
        self.title = str(about.get("name", ""))
        self.licence = ", ".join(x.removeprefix("spdx:") for x in about.get("license") or ())
        self.citation = str(about.get("citation", ""))

    def assets(self) -> list[Asset]:
        return list(self._listing[0])

    def others(self) -> list[Asset]:
        return list(self._listing[1])

    @cached_property
    def _listing(self) -> tuple[list[Asset], list[Asset]]:
        """The NWB assets and the others; metadata=true brings the digests in the same pages."""
        where = f"dandiset {self.dataset}/{self.version}"
        nwb: list[Asset] = []
        others: list[Asset] = []
        with self._reported(f"{where} is no longer in the archive at {self.url}"):
            for record in self._client.paginate(
                f"/dandisets/{self.dataset}/versions/{self.version}/assets/",
                params={"metadata": "true", "order": "path"},
            ):
                is_nwb = record["path"].lower().endswith(".nwb") and record.get("blob")
                (nwb if is_nwb else others).append(self._asset(record))
        return sorted(nwb, key=lambda a: a.path), sorted(others, key=lambda a: a.path)

    def _asset(self, record: dict[str, Any]) -> Asset:
        digest = (record.get("metadata") or {}).get("digest") or {}
        return Asset(
            path=record["path"],
            size=record["size"],
            location=self._client.get_url(f"/assets/{record['asset_id']}/download/"),
            asset_id=record["asset_id"],
            sha256=digest.get("dandi:sha2-256"),
            etag=digest.get("dandi:dandi-etag"),
            dandiset=self.dataset,
            version=self.version,
        )

    def fetch(self, asset: Asset, folder: Path, progress: Progress = _unwatched) -> Path:
        final = _place(folder, asset.path)
        part = final.with_name(final.name + ".part")
        try:
            if final.is_file() and _mismatch(final, asset) is None:
                progress(asset.size)
                return final
            final.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(2):  # a part that an earlier run left may be of other bytes
                self._download(asset, part, progress)
                problem = _mismatch(part, asset)
                if problem is None:
                    part.replace(final)
                    return final
                progress(-part.stat().st_size)
                part.unlink()
        except OSError as error:
            raise SourceError(f"{part} cannot be written: {error.strerror or error}") from error
        raise SourceError(
            f"{asset.path} of dandiset {self.dataset}/{self.version}: {problem}, also when started "
            "again; nothing was kept. Try later, and tell the archive if it stays so"
        )

    def _download(self, asset: Asset, part: Path, progress: Progress) -> None:
        """Bring `part` to the asset's size, or beyond, going on from where it stops."""
        absent = f"{asset.path} is no longer in dandiset {self.dataset}: list it again"
        part.touch()
        size = furthest = part.stat().st_size
        progress(size)
        waits = self._patience.waits()
        while size < asset.size:
            reason = "it ended early"
            with self._reported(absent):
                try:
                    self._append(asset.location, part, progress)
                except _BROKEN_OFF as error:
                    reason = _cause(error)
            size = part.stat().st_size
            if size > furthest:
                furthest, waits = size, self._patience.waits()  # it moves: patience starts anew
            if size < asset.size:
                wait = next(waits, None)
                if wait is None:
                    raise SourceError(
                        f"{asset.path} broke off after {size} of {asset.size} bytes ({reason}): "
                        "fetch it again, and it goes on from there"
                    )
                time.sleep(wait)

    def _append(self, url: str, part: Path, progress: Progress) -> None:
        start = part.stat().st_size
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._client.get(url, json_resp=False, stream=True, headers=headers) as response:
            whole = response.status_code != 206  # a server may ignore the range
            with part.open("wb" if whole else "ab") as file:
                if whole:
                    progress(-start)
                for block in response.iter_content(_BLOCK):
                    file.write(block)
                    progress(len(block))
                file.flush()
                os.fsync(file.fileno())

    @contextmanager
    def _reported(self, absent: str) -> Iterator[None]:
        """Raise what goes wrong inside as SourceError; `absent` is what a 404 means."""
        from dandi.exceptions import NotFoundError

        try:
            yield
        except (NotFoundError, requests.RequestException, ValueError) as error:
            response = getattr(error, "response", None)
            status = getattr(response, "status_code", 0)
            if isinstance(error, NotFoundError) or status == 404:
                raise SourceError(absent) from error
            raise SourceError(self._why(error, status)) from error

    def _why(self, error: Exception, status: int) -> str:
        archive = f"the archive at {self.url}"
        if status in (401, 403):
            shut = "refuses this key" if self._has_key else f"keeps dandiset {self.dataset} closed"
            return f"{archive} {shut} ({status}): set {KEY_VARIABLE} to a key that has access"
        if status:
            return f"{archive} answered {status}: try again later"
        if isinstance(error, ValueError):
            return f"{self.url} does not answer as a DANDI API: check the address"
        why = error if isinstance(error, RetryError) else _cause(error)
        return f"{archive} is not available ({why}): check address and network, or try later"


def _api_url(instance: str | None) -> str:
    if not instance:
        from dandi.consts import known_instances

        return str(known_instances["dandi"].api)
    if not re.match(r"https?://[^/]", instance):
        raise SourceError(f"{instance!r} is not the address of a DANDI API: https://HOST/api")
    return instance.rstrip("/").removesuffix("/api") + "/api"


def _client(url: str, patience: Patience) -> DandiAPIClient:
    """The archive's client with `_Transport` beneath it; nothing is asked of the archive yet."""
    # Or the client would ask a third host whether it is the newest version.
    os.environ.setdefault("DANDI_NO_ET", "1")
    from dandi.consts import DandiInstance
    from dandi.dandiapi import DandiAPIClient

    if "DANDI_LOG_LEVEL" not in os.environ:  # it logs, as errors, what is raised here anyway
        logging.getLogger("dandi").setLevel(logging.CRITICAL)
    # An instance of our own: given a URL, the client looks around with requests without time-out.
    client = DandiAPIClient(dandi_instance=DandiInstance(urlsplit(url).netloc, None, url))
    for scheme in ("http://", "https://"):
        client.session.mount(scheme, _Transport(patience))
    return client


def _check_server(client: DandiAPIClient) -> None:
    """Raise SourceError where the archive does not serve this version of its client."""
    import dandi
    from packaging.version import Version

    info = client.get("/info/")
    if not isinstance(info, dict) or "cli-minimal-version" not in info:
        raise ValueError("this is some other server")
    oldest, bad = info["cli-minimal-version"], info["cli-bad-versions"]
    installed = Version(dandi.__version__)
    if installed < Version(oldest) or installed in [Version(v) for v in bad]:
        raise SourceError(
            f"the archive at {client.api_url} needs dandi {oldest} or later, and none of "
            f"{bad}; {installed} is installed: pip install -U dandi"
        )


def _place(folder: Path, path: str) -> Path:
    """Where an asset is kept. Raises SourceError for a path that leads out of `folder`."""
    parts = path.split("/")
    odd = any(p in ("", ".", "..") or re.match("[A-Za-z]:", p) for p in parts)
    if odd or "\\" in path or "\0" in path:
        raise SourceError(f"the asset path {path!r} is not kept: it may lead out of the folder")
    return folder.joinpath(*parts)


def _mismatch(path: Path, asset: Asset) -> str | None:
    """How the file at `path` differs from what the archive says of the asset."""
    size = path.stat().st_size
    if size != asset.size:
        return f"expected {asset.size} bytes, got {size}"
    if asset.sha256:
        name, expected, got = "sha256", asset.sha256, sha256_of(path)
    elif asset.etag:
        from dandischema.digests.dandietag import DandiETag

        name, expected, got = "dandi-etag", asset.etag, DandiETag.from_file(path).as_str()
    else:
        return None
    return None if got == expected else f"expected {name} {expected}, got {got}"
