"""HTTP as archives need it: time-outs, retries that end, and what is left as SourceError.

No message holds a key or a signed address.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, RetryError

from neurobrick.errors import RequestRefused, SourceError

BLOCK = 1 << 16  # bytes read at a time, at most
THREADS = 8  # requests for one asset at a time

LENIENCE = 4

_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_BROKEN_OFF = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)
_CONNECTIONS = 64  # that are kept: urllib3 warns of each beyond them

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds, and how often it is asked again.

    One that meanwhile answers others of these requests is alive: it is asked `LENIENCE` times as
    often.
    """

    timeout: float = 30.0  # without a byte
    retries: int = 4
    first_wait: float = 0.5  # doubled each time
    longest_wait: float = 60.0  # also where the server says how long, as Zenodo does

    def wait(self, attempt: int) -> float:
        """How long to wait after an attempt, of which the first is 0."""
        return min(self.first_wait * 2 ** min(attempt, self.retries - 1), self.longest_wait)


class Transport(HTTPAdapter):
    """Time-outs and retries beneath a session of requests, whatever asks through it.

    dandi's client repeats a failed call 12 times in 53 s, but it lets a RetryError pass: that is
    what ends the retries here.
    """

    __attrs__ = (*HTTPAdapter.__attrs__, "_patience", "_answers")  # what a pickle keeps

    def __init__(self, patience: Patience) -> None:
        super().__init__(pool_maxsize=_CONNECTIONS)
        self._patience = patience
        self._answers = 0  # of any use

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
        before = self._answers
        for attempt in count():
            asked = 0.0
            try:
                response = super().send(request, stream, timeout, verify, cert, proxies)
                if not stream:
                    response.content  # noqa: B018 (a body that breaks off is asked for again, too)
            except _BROKEN_OFF as error:
                reason = cause(error)
                if isinstance(error, requests.Timeout) and not stream:
                    break  # it had its time; a download is worth waiting for longer
            else:
                if response.status_code not in _TRANSIENT:
                    self._answers += 1
                    return response
                reason = f"it answers {response.status_code}"
                asked = _retry_after(response)
                response.close()
            lenience = LENIENCE if self._answers > before else 1
            if attempt >= self._patience.retries * lenience:
                break
            pause = self._patience.wait(attempt)
            time.sleep(max(pause, min(asked, self._patience.longest_wait)))
        raise RetryError(f"{urlsplit(str(request.url)).hostname}: {reason}", request=request)


def _retry_after(response: requests.Response) -> float:
    """The seconds that the server asks for, by either header that Zenodo sends; 0 for none."""
    seconds = response.headers.get("Retry-After", "")
    if seconds.isdecimal():
        return float(seconds)
    reset = response.headers.get("X-RateLimit-Reset", "")
    return float(reset) - time.time() if reset.isdecimal() else 0.0


def patient(session: requests.Session, patience: Patience) -> requests.Session:
    """The session, with `Transport` beneath it."""
    for scheme in ("http://", "https://"):
        session.mount(scheme, Transport(patience))
    return session


def cause(error: Exception) -> str:
    """The last words of a nest of network exceptions: the others quote the whole address."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    return str(inner.args[-1] if getattr(inner, "args", ()) else inner).rpartition(": ")[2]


@dataclass(frozen=True)
class Web:
    """GET over one session, from several threads if need be. Can be pickled, with its key.

    `server` names it in messages. `shut` says what a 401 or 403 means, and `remedy` what to do.
    """

    session: requests.Session
    patience: Patience
    server: str
    shut: str
    remedy: str

    def get(
        self,
        url: str,
        absent: str,
        headers: Mapping[str, str] | None = None,
        *,
        redirects: bool = True,
        stream: bool = True,
    ) -> requests.Response:
        """An answer, to be closed by the caller; its body is still to be read, if it is a `stream`.

        Raises SourceError, which is `absent` for a 404, and RequestRefused for a 401 or 403.
        """
        headers = {"Accept-Encoding": "identity", **(headers or {})}
        try:
            # A redirect to another host or port takes no key along: requests sees to that.
            response = self.session.get(
                url, headers=headers, stream=stream, allow_redirects=redirects
            )
        except (requests.RequestException, ValueError) as error:
            raise self.complaint(error, absent) from error
        if response.status_code >= 400:
            response.close()
            raise self.refusal(response.status_code, absent)
        return response

    def json(self, url: str, absent: str) -> Any:
        """The JSON document there. Raises as `get` does."""
        with self.get(url, absent, stream=False) as response:
            try:
                return response.json()
            except requests.exceptions.JSONDecodeError as error:
                raise SourceError(
                    f"{self.server} does not answer in JSON: check the address"
                ) from error

    def complaint(self, error: Exception, absent: str) -> SourceError:
        """What to raise for an exception of requests."""
        response = getattr(error, "response", None)
        if response is not None:
            return self.refusal(response.status_code, absent)
        why = error if isinstance(error, RetryError) else cause(error)
        return SourceError(
            f"{self.server} is not available ({why}): check address and network, or try later"
        )

    def refusal(self, status: int, absent: str) -> SourceError:
        """What to raise for a status of 400 or more."""
        if status in (404, 410):
            return SourceError(absent)
        if status in (401, 403):
            return RequestRefused(f"{self.server} {self.shut} ({status}): {self.remedy}")
        return SourceError(f"{self.server} answered {status}: try again later")


def blocks(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes, so that what came before it broke off is not lost."""
    try:
        while block := response.raw.read1(BLOCK, decode_content=True):
            yield block
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error


def persevere(
    gain: Callable[[], None],
    held: Callable[[], int],
    size: int,
    patience: Patience,
    title: str,
    advice: str,
) -> None:
    """Call `gain` until `held` tells `size` bytes or more, with pauses; as long as something is
    gained, patience begins anew.

    Raises SourceError when nothing more comes, and what `gain` raises that is no network's fault.
    """
    furthest = held()
    attempt = 0
    while held() < size:
        reason = "it ended early"
        try:
            gain()
        except requests.RequestException as error:
            reason = cause(error)
        if (have := held()) > furthest:
            furthest, attempt = have, 0
        if have < size:
            if attempt >= patience.retries:
                raise SourceError(
                    f"{title} broke off after {have} of {size} bytes ({reason}): {advice}"
                )
            time.sleep(patience.wait(attempt))
            attempt += 1


def side_by_side(work: Callable[[T], R], items: Iterable[T], threads: int = THREADS) -> list[R]:
    """What `work` makes of each item, in their order, done by threads.

    The first exception is raised; what was not begun by then is not begun.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
