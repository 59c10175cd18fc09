"""Requests that fail for a while: which are repeated, how often, and how long is waited."""

from __future__ import annotations

import logging
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest
import requests

from demo.archive import SIGNATURE
from demo.loopback import Handler, Loopback
from neurobrick.sources.web.transport import LENIENCE, Patience, Web, patient
from tests.support.archives import EAGER, message, on_loopback_only

TRANSIENT = (408, 429, 500, 502, 503, 504)
SLOW = Patience(stall=5.0, retries=3, first_wait=0.5, longest_wait=4.0)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    on_loopback_only(monkeypatch)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that are waited between requests; nothing waits in truth."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


class Failing(Loopback):
    """Fails `times` times with a status and headers, then answers; `/alive` always answers."""

    def __init__(self, times: int, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.times, self.status, self.headers = times, status, headers or {}
        self.failures = count()
        self.url = self.listen(self._answer)

    def _answer(self, request: Handler) -> None:
        if request.path != "/alive" and next(self.failures) < self.times:
            return request.send(self.status, self.headers)
        request.send_json({"well": "done"})


def web(patience: Patience) -> Web:
    return Web(patient(requests.Session(), patience), patience, "the server", "is shut", "ask")


@pytest.mark.parametrize("status", TRANSIENT)
def test_passing_failures_are_outlasted(status: int, waited: list[float]) -> None:
    with Failing(SLOW.retries, status) as server:
        assert web(SLOW).json(server.url, "gone") == {"well": "done"}
    assert len(server.log) == 1 + SLOW.retries
    assert waited == [1.0, 2.0]  # the first retry comes at once, each later one after twice as long


@pytest.mark.parametrize("status", TRANSIENT)
def test_lasting_failures_are_given_up(status: int, waited: list[float]) -> None:
    with Failing(1_000, status) as server:
        said = message(lambda: web(SLOW).json(server.url, "gone"))
    assert f"answers {status}" in said
    assert len(server.log) == 1 + SLOW.retries


def test_the_body_of_a_failure_is_not_read(waited: list[float]) -> None:
    """A server could send one without end, or one that is larger than the memory."""
    sent = []

    def answer(request: Handler) -> None:
        if sent:
            return request.send_json({"well": "done"})
        sent.append(0)
        request.send_response(503)
        request.send_header("Content-Length", str(1 << 40))
        request.end_headers()
        with suppress(OSError):  # the client has closed the connection
            while sent[0] < 1 << 28:
                sent[0] += request.wfile.write(bytes(1 << 16))

    server = Loopback()
    url = server.listen(answer)
    with server:
        assert web(SLOW).json(url, "gone") == {"well": "done"}
    assert sent[0] < 1 << 26


@pytest.mark.parametrize("status", [400, 404, 409, 410, 418, 501])
def test_a_lasting_answer_is_not_repeated(status: int, waited: list[float]) -> None:
    with Failing(1_000, status) as server:
        assert message(lambda: web(SLOW).json(server.url, "gone"))
    assert len(server.log) == 1
    assert waited == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, [3.0]),
        ({"Retry-After": "999999"}, [SLOW.longest_wait]),
        ({"Retry-After": "9" * 30}, [SLOW.longest_wait]),
        ({"Retry-After": "9" * 5_000}, []),
        ({"Retry-After": "Thu, 01 Jan 2099 00:00:00 GMT"}, [SLOW.longest_wait]),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, []),
        ({"Retry-After": "tomorrow"}, []),
        ({"Retry-After": "-5"}, []),
        ({"X-RateLimit-Reset": "99999999999"}, [SLOW.longest_wait]),
        ({"X-RateLimit-Reset": "1"}, []),
        ({"X-RateLimit-Reset": "soon"}, []),
    ],
)
def test_the_servers_wish_is_obeyed_within_a_bound(
    headers: dict[str, str], seconds: list[float], waited: list[float]
) -> None:
    with Failing(1, 503, headers) as server:
        assert web(SLOW).json(server.url, "gone")
    assert waited == seconds


def test_a_server_that_answers_others_is_given_more_time(waited: list[float]) -> None:
    class Busy(Failing):
        def _answer(self, request: Handler) -> None:
            if request.path != "/alive":
                browser.json(f"{self.url}/alive", "gone")  # another request, over the same session
            super()._answer(request)

    browser = web(EAGER)
    with Busy(EAGER.retries * LENIENCE, 503) as server:
        assert browser.json(f"{server.url}/busy", "gone")
        server.times = 10_000
        assert "answers 503" in message(lambda: browser.json(f"{server.url}/busy", "gone"))
    busy = [request for request in server.log if request.path == "/busy"]
    assert len(busy) == 2 * (1 + EAGER.retries * LENIENCE)


def test_retries_begin_anew_after_a_pickle(waited: list[float]) -> None:
    with Failing(SLOW.retries, 503) as server:
        sent = pickle.loads(pickle.dumps(web(SLOW)))
        assert sent.json(server.url, "gone") == {"well": "done"}


@pytest.fixture
def closing() -> Iterator[tuple[str, list[int]]]:
    """The address of a server that hangs up on each client, and how many came."""
    clients: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                clients.append(1)
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", clients
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_a_server_that_hangs_up_is_asked_as_often(closing: tuple[str, list[int]]) -> None:
    url, clients = closing
    said = message(lambda: web(EAGER).json(url, "gone"))
    assert "not available" in said
    assert len(clients) == 1 + EAGER.retries


def test_no_log_holds_a_signed_address(
    closing: tuple[str, list[int]],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url, _ = closing
    with caplog.at_level(logging.INFO):
        message(lambda: web(EAGER).get(f"{url}/x?signature={SIGNATURE}", "gone"))
    assert SIGNATURE not in caplog.text
    out, err = capfd.readouterr()
    assert SIGNATURE not in out + err


def test_a_short_answer_that_breaks_off_is_asked_for_again(waited: list[float]) -> None:
    class Breaking(Failing):
        def _answer(self, request: Handler) -> None:
            if next(self.failures) < self.times:
                request.send(200, {"Content-Length": "20"})
                request.wfile.write(b'{"half": ')
                request.close_connection = True
            else:
                request.send_json({"well": "done"})

    with Breaking(2, 200) as server:
        assert web(SLOW).json(server.url, "gone") == {"well": "done"}
    assert len(server.log) == 3
    with Breaking(1_000, 200) as server:
        assert "not available" in message(lambda: web(SLOW).json(server.url, "gone"))
    assert len(server.log) == 1 + SLOW.retries


def test_a_server_that_says_nothing_is_asked_twice() -> None:
    patience = Patience(stall=0.2, retries=9, first_wait=0.01)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert "timed out" in message(lambda: web(patience).json(url, "gone"))
        mute.settimeout(0)
        connections = []
        with suppress(BlockingIOError):  # when all are taken
            while True:
                connections.append(mute.accept()[0])
        for connection in connections:
            connection.close()
    assert len(connections) == 2
