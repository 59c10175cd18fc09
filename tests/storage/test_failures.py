"""What each provider answers, as obstore passes it on, becomes advice; nothing of it is shown."""

from __future__ import annotations

import errno

import pytest

from neurobrick import StoreError
from neurobrick.storage.address import StorageUrl
from neurobrick.storage.remote.failures import REGION_CODES, STALE, UNREACHABLE, explained

SECRET = "sig=bm9ib2R5IHNob3VsZCBzZWUgdGhpcw"


class GenericError(Exception):
    """As obstore's exceptions, which are told apart by their names."""


class PermissionDeniedError(Exception):
    pass


class UnauthenticatedError(Exception):
    pass


def message(error: Exception, url: str = "s3://bucket/corpus", anonymous: bool = False) -> str:
    """What a user reads for `error`, which came when the object a/b was read."""
    told = explained(error, StorageUrl.parse(url), "a/b", anonymous, "the server")
    assert isinstance(told, StoreError)
    assert SECRET not in str(told)
    assert "\n" not in str(told)
    return str(told)


def answered(status: int, code: str = "", text: str = "") -> GenericError:
    """An error that quotes the server's answer."""
    body = f"<Error><Code>{code}</Code><Message>{text} {SECRET}</Message></Error>" if code else text
    return GenericError(
        f"Generic S3 error: Error performing GET https://host/a/b?{SECRET} in 1s - Server returned"
        f" non-2xx status code: {status} Some Words: {body}"
    )


@pytest.mark.parametrize(
    ("error", "url"),
    [
        (answered(404, "NoSuchBucket"), "s3://bucket/corpus"),
        (answered(404, "NoSuchBucket"), "gs://bucket/corpus"),
        (answered(404, text="ContainerNotFound: the container"), "az://bucket/corpus"),
    ],
)
def test_a_bucket_that_is_not_there(error: Exception, url: str) -> None:
    assert "there is no bucket bucket at the server" in message(error, url)


def test_an_object_that_is_not_there_is_a_missing_file() -> None:
    error = FileNotFoundError(f"Object at location a/b not found: {SECRET}")
    found = explained(error, StorageUrl.parse("s3://bucket/corpus"), "a/b", False, "the server")
    assert isinstance(found, FileNotFoundError)
    assert (found.errno, found.filename) == (errno.ENOENT, "s3://bucket/corpus/a/b")


@pytest.mark.parametrize(
    "error",
    [
        *(answered(400, code) for code in sorted(REGION_CODES)),
        GenericError("Received redirect without LOCATION, this normally indicates an incorrect"),
    ],
    ids=str,
)
def test_another_region(error: Exception) -> None:
    assert "set AWS_REGION" in message(error)


@pytest.mark.parametrize(
    ("text", "url", "advice"),
    [
        ("External AWS credential provider raised", "s3://bucket", "aws sso login"),
        ("Error performing token request: error", "gs://bucket", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("Error performing token request: error", "az://bucket", "AZURE_STORAGE_ACCOUNT_KEY"),
        ("MissingAccount", "az://bucket", "AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_no_credentials(text: str, url: str, advice: str) -> None:
    said = message(GenericError(f"Generic error: {text} {SECRET}"), url)
    assert said.startswith(f"no credentials for {url} can be had")
    assert advice in said


@pytest.mark.parametrize("code", sorted(STALE))
def test_credentials_that_are_refused_for_a_reason(code: str) -> None:
    said = message(answered(403, code))
    assert "refused" in said
    assert STALE[code] in said


@pytest.mark.parametrize(
    "error", [answered(401), answered(403, "AccessDenied"), PermissionDeniedError(SECRET),
              UnauthenticatedError(SECRET)], ids=lambda error: type(error).__name__
)  # fmt: skip
@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("s3://bucket/corpus", "AWS_PROFILE"),
        ("gs://bucket/corpus", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://bucket/corpus", "AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_credentials_that_are_refused(error: Exception, url: str, variable: str) -> None:
    assert f"{url}/a/b is refused to the credentials" in message(error, url)
    assert f"{url}/a/b is not public" in message(error, url, anonymous=True)
    assert variable in message(error, url)


def test_a_web_server_that_refuses() -> None:
    said = message(answered(403), "https://host/corpus")
    assert said == "https://host/corpus/a/b is not public: its server refuses it"


@pytest.mark.parametrize(("status", "code"), [(500, ""), (503, "SlowDown"), (429, "")])
def test_other_answers(status: int, code: str) -> None:
    assert f"the server answered {f'{status} {code}'.strip()}: try again" in message(
        answered(status, code)
    )


@pytest.mark.parametrize("sign", sorted(UNREACHABLE))
def test_a_server_that_is_not_reached(sign: str) -> None:
    error = GenericError(f"Generic HTTP error: request or response body error: {sign} {SECRET}")
    assert f"the server cannot be reached for s3://bucket/corpus/a/b: {UNREACHABLE[sign]}" in (
        message(error)
    )


def test_whatever_else() -> None:
    said = message(ValueError(f"nobody knows {SECRET}"))
    assert said == "s3://bucket/corpus/a/b cannot be had from the server (ValueError): try again"
