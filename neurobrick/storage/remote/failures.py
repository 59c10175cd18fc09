"""Exceptions of obstore as errors of neurobrick that say what to do.

The messages of obstore are never shown. They quote answers of the server and, on Azure, addresses
with signatures.
"""

from __future__ import annotations

import errno
import os
import re

from neurobrick.errors import StoreError
from neurobrick.storage.address import StorageUrl

HOW_TO_SIGN = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run aws sso login",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login; for a"
    " public bucket set GOOGLE_SKIP_SIGNATURE=true",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or run az login",
}
STALE = {
    "ExpiredToken": "they have expired: renew them (aws sso login)",
    "InvalidAccessKeyId": "there is no such access key: look at AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "SignatureDoesNotMatch": "the secret key is not that of the access key: look at"
    " AWS_SECRET_ACCESS_KEY or AWS_PROFILE",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}
UNREACHABLE = {
    "dns error": "its host has no address",
    "Connection refused": "nothing answers there",
    "certificate": "its certificate is not trusted",
    "tcp connect error": "no connection can be made",
    "kind: Connect": "no connection can be made",
    "TimedOut": "it does not answer in time",
    "timed out": "it does not answer in time",
    "kind: Timeout": "it does not answer in time",
}
WITHOUT_CREDENTIALS = ("token request", "MissingAccount", "External AWS credential provider")
REGION_CODES = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}


def explained(
    error: Exception, place: StorageUrl, name: str, anonymous: bool, server: str
) -> Exception:
    """The exception to raise instead of `error`, which was raised for the object `name`.

    `server` names the server in messages. `anonymous`: requests were not signed. Returns a
    FileNotFoundError for an object that does not exist, a StoreError for all else.
    """
    text = str(error)
    code = _first(r"<Code>(\w+)</Code>", text)
    status = _first(r"status code: (\d{3})", text)
    address = f"{place.url}/{name}".rstrip("/")
    if code == "NoSuchBucket" or "ContainerNotFound" in text:
        return StoreError(f"there is no bucket {place.bucket} at {server}: look at {place.url}")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), address)
    if code in REGION_CODES or "redirect without LOCATION" in text:
        return StoreError(
            f"{place.url} is in another region than {server}: set AWS_REGION to the bucket's"
        )
    if any(sign in text for sign in WITHOUT_CREDENTIALS):
        return StoreError(f"no credentials for {place.url} can be had: {_how_to_sign(place)}")
    kind = type(error).__name__
    if status in ("401", "403") or kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return StoreError(_refused(place, address, code, anonymous))
    if status:
        answer = f"{status} {code}".strip()
        return StoreError(f"{address}: {server} answered {answer}: try again later")
    for sign, reason in UNREACHABLE.items():
        if sign in text:
            return StoreError(
                f"{server} cannot be reached for {address}: {reason}; check the address and the"
                " network"
            )
    return StoreError(f"{address} cannot be had from {server} ({kind}): try again")


def _refused(place: StorageUrl, address: str, code: str, anonymous: bool) -> str:
    if place.is_plain_http:
        return f"{address} is not public: its server refuses it"
    if anonymous:
        return (
            f"{address} is not public, and no credentials were found: {_how_to_sign(place)} (a"
            " public bucket that cannot be listed says so of files that are not there, too)"
        )
    advice = STALE.get(code) or f"ask the bucket's owner, or use others: {_how_to_sign(place)}"
    quoted = f" ({code})" if code else ""
    return f"{address} is refused to the credentials that were found{quoted}: {advice}"


def _how_to_sign(place: StorageUrl) -> str:
    return HOW_TO_SIGN.get(place.scheme, "")


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""
