"""HTTP as archives need it: time-outs, retries that end, and SourceError for what remains.

urllib3 repeats plain requests (`_Retry`). A body that breaks off is continued (`persevere`). No
message holds a key or a signed address.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, RetryError
from urllib3.exceptions import MaxRetryError, ReadTimeoutError, ResponseError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from neurobrick.errors import RequestRefused, SourceError

BLOCK = 1 << 16  # bytes read at a time, at most
THREADS = 8  # requests for one asset at a time

LENIENCE = 4

# Raised where code takes an answer apart that is not as its API documents it.
UNEXPECTED = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError)

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_BROKEN_OFF = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)
_CONNECTIONS = 64  # kept open; urllib3 warns of each beyond them

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, and how often a request is repeated.

    Fields are called as those of `storage.address.Limits`. A server that still answers other
    requests is alive: then a request is repeated `LENIENCE` times as often.
    """

    stall: float = 30.0  # seconds without a byte, before a request counts as failed
    retries: int = 4
    first_wait: float = 0.5  # seconds before a retry; doubled each time
    longest_wait: float = 60.0  # seconds; also the most that a server's Retry-After is obeyed

    def wait(self, attempt: int) -> float:
        """Seconds to wait after an attempt; the first attempt is 0."""
        return min(self.first_wait * 2 ** min(attempt, self.retries - 1), self.longest_wait)


@dataclass
class _Answers:
    """How many useful answers a server has given; shared by all requests of one `Transport`."""

    count: int = 0


class _Retry(Retry):
    """urllib3's retries, with `Patience.retries` or, where the server answers other requests
    meanwhile, `LENIENCE` times as many; a server that sends nothing is tried only twice."""

    _patience: Patience
    _answers: _Answers
    _before: int  # the answers when this request first failed

    @classmethod
    def under(cls, patience: Patience, answers: _Answers) -> Self:
        retry = cls(
            total=patience.retries * LENIENCE + 1,  # `increment` ends them before
            status_forcelist=_TRANSIENT,
            backoff_factor=patience.first_wait,
            backoff_max=patience.longest_wait,
        )
        retry._patience, retry._answers, retry._before = patience, answers, 0
        return retry

    def new(self, **changes: Any) -> Self:
        retry = super().new(**changes)
        retry._patience, retry._answers = self._patience, self._answers
        retry._before = self._before if self.history else self._answers.count
        return retry

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        """The retries that are left. Raises MaxRetryError when there are none."""
        if response is not None:
            response.close()  # urllib3 would read the body to its end, and it may have none
        reason = error or ResponseError(f"it answers {response.status if response else 'nothing'}")
        retry = super().increment(method, url, response, error, _pool, _stacktrace)
        failures = len(retry.history)
        is_alive = self._answers.count > retry._before
        silent = sum(isinstance(failure.error, ReadTimeoutError) for failure in retry.history)
        if silent > 1 or failures > self._patience.retries * (LENIENCE if is_alive else 1):
            raise MaxRetryError(_pool, url or "", reason) from error
        return retry

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """The seconds that the server asks for, bounded; None where it says nothing readable.

        Zenodo says it by X-RateLimit-Reset, the second since 1970 at which it answers again.
        """
        with suppress(ValueError, OverflowError, urllib3.exceptions.InvalidHeader):
            seconds = super().get_retry_after(response)
            reset = response.headers.get("X-RateLimit-Reset", "")
            if seconds is None and reset.isdecimal():
                seconds = float(reset) - time.time()
            if seconds is not None:
                return min(max(seconds, 0.0), self._patience.longest_wait)
        return None


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Whether urllib3 may log this. Its warning of a retry would show a signed address."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(isinstance(argument, _Retry) for argument in arguments)


logging.getLogger("urllib3.connectionpool").addFilter(_is_not_ours)


class Transport(HTTPAdapter):
    """Time-outs and retries beneath a session of requests, whatever asks through it.

    What still fails is raised as RetryError: dandi's client would repeat a ConnectionError 12 times
    in 53 s, and lets a RetryError pass.
    """

    __attrs__ = (*HTTPAdapter.__attrs__, "_patience", "_answers")  # what a pickle keeps

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._answers = _Answers()
        retry = _Retry.under(patience, self._answers)
        super().__init__(pool_maxsize=_CONNECTIONS, max_retries=retry)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        timeout = timeout or self._patience.stall
        for attempt in range(self._patience.retries + 1):
            try:
                response = super().send(request, stream, timeout, verify, cert, proxies)
            except (*_BROKEN_OFF, RetryError) as error:
                reason = cause(error)
                break
            try:
                if not stream:  # a short answer: if it breaks off, ask for all of it again
                    response.content  # noqa: B018
            except _BROKEN_OFF as error:
                reason = cause(error)
                time.sleep(self._patience.wait(attempt))
            else:
                self._answers.count += 1
                return response
        raise RetryError(f"{urlsplit(str(request.url)).hostname}: {reason}", request=request)


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
    """GET over one session, from several threads if need be. Can be pickled, with its key."""

    session: requests.Session
    patience: Patience
    server: str  # its name in messages
    shut: str  # what a 401 or 403 means: "keeps record 1 closed"
    remedy: str  # what to do about it

    def get(
        self,
        url: str,
        absent: str,
        headers: Mapping[str, str] | None = None,
        *,
        redirects: bool = True,
        stream: bool = True,
    ) -> requests.Response:
        """An answer, for the caller to close. The body of a `stream` has not been read yet.

        Raises SourceError, with the text `absent` for a 404, and RequestRefused for a 401 or 403.
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
            except (ValueError, RecursionError) as error:
                raise SourceError(
                    f"{self.server} does not answer in JSON: check the address"
                ) from error

    def complaint(self, error: Exception, absent: str) -> SourceError:
        """The error to raise for an exception of requests."""
        response = getattr(error, "response", None)
        if response is not None:
            return self.refusal(response.status_code, absent)
        why = error if isinstance(error, RetryError) else cause(error)
        return SourceError(
            f"{self.server} is not available ({why}): check address and network, or try later"
        )

    def refusal(self, status: int, absent: str) -> SourceError:
        """The error to raise for a status of 400 or more."""
        if status in (404, 410):
            return SourceError(absent)
        if status in (401, 403):
            return RequestRefused(f"{self.server} {self.shut} ({status}): {self.remedy}")
        return SourceError(f"{self.server} answered {status}: try again later")


def blocks(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes, so that bytes are kept that came before it broke off."""
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
    """Call `gain` until `held()` is `size` bytes or more, with pauses.

    Whenever bytes are gained, the count of retries begins anew. Raises SourceError when no more
    bytes come, and whatever `gain` raises that is not a failure of the network.
    """
    furthest = held()
    attempt = 0
    while held() < size:
        reason = "it ended early"
        try:
            gain()
        except requests.RequestException as error:
            reason = cause(error)
        if (n_bytes := held()) > furthest:
            furthest, attempt = n_bytes, 0
        if n_bytes < size:
            if attempt >= patience.retries:
                raise SourceError(
                    f"{title} broke off after {n_bytes} of {size} bytes ({reason}): {advice}"
                )
            time.sleep(patience.wait(attempt))
            attempt += 1


def side_by_side(work: Callable[[T], R], items: Iterable[T], threads: int = THREADS) -> list[R]:
    """The results of `work` for each item, in their order, computed by threads.

    Raises the first exception; items that were not begun by then are not begun.
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
