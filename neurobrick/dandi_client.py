"""The archive's own client, made patient and quiet.

It gets time-outs, which it lacks, and retries that end sooner than its own; what it would log as
errors is raised by `dandi_source` anyway. dandi itself is imported when a client is made, because
that takes most of a second.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, RetryError

from neurobrick.errors import SourceError

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient

BROKEN_OFF = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)

_TRANSIENT = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long an archive is waited for, in seconds, and how often it is asked again."""

    timeout: float = 30.0  # without a byte
    retries: int = 4
    first_wait: float = 0.5  # doubled each time
    longest_wait: float = 30.0

    def waits(self) -> Iterator[float]:
        return (min(self.first_wait * 2**n, self.longest_wait) for n in range(self.retries))


class Transport(HTTPAdapter):
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
            except BROKEN_OFF as error:
                reason = cause(error)
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


def cause(error: Exception) -> str:
    """The last words of a nest of network exceptions: the others quote the whole address."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    return str(inner.args[-1] if getattr(inner, "args", ()) else inner).rpartition(": ")[2]


def api_url(instance: str | None) -> str:
    if not instance:
        from dandi.consts import known_instances

        return str(known_instances["dandi"].api)
    if not re.match(r"https?://[^/]", instance):
        raise SourceError(f"{instance!r} is not the address of a DANDI API: https://HOST/api")
    return instance.rstrip("/").removesuffix("/api") + "/api"


def archive_client(url: str, patience: Patience) -> DandiAPIClient:
    """The archive's client with `Transport` beneath it; nothing is asked of the archive yet."""
    # Or the client would ask a third host whether it is the newest version.
    os.environ.setdefault("DANDI_NO_ET", "1")
    from dandi.consts import DandiInstance
    from dandi.dandiapi import DandiAPIClient

    if "DANDI_LOG_LEVEL" not in os.environ:  # it logs, as errors, what is raised here anyway
        logging.getLogger("dandi").setLevel(logging.CRITICAL)
    # An instance of our own: given a URL, the client looks around with requests without time-out.
    client = DandiAPIClient(dandi_instance=DandiInstance(urlsplit(url).netloc, None, url))
    for scheme in ("http://", "https://"):
        client.session.mount(scheme, Transport(patience))
    return client


def check_server(client: DandiAPIClient) -> None:
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
