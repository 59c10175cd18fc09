"""The address of an object storage, and the limits of a request to it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from neurobrick.errors import StoreError, listed

SCHEMES = ("s3", "gs", "az", "https", "http")


@dataclass(frozen=True)
class Limits:
    """What one call may take. Fields are called as those of `sources.web.transport.Patience`.

    A failed request is repeated until `retries` or `retry_within` is reached.
    """

    retries: int = 10
    retry_within: float = 30.0  # seconds after the first try
    first_wait: float = 0.1  # seconds before a retry; doubled each time
    longest_wait: float = 5.0  # seconds
    connect: float = 5.0  # seconds to connect, before a request counts as failed
    stall: float = 15.0  # seconds without a byte, before a request counts as failed
    at_once: int = 32  # requests


@dataclass(frozen=True)
class StorageUrl:
    """A URL in parts."""

    scheme: str  # one of SCHEMES
    bucket: str  # on Azure a container; of plain HTTP the host, with its port
    prefix: str  # of the names of objects, without a slash at either end

    @classmethod
    def parse(cls, url: str) -> StorageUrl:
        """The parts of `url`.

        Raises StoreError when it is not the URL of a storage. The message shows no password.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:  # as an unclosed bracket; the error shows the whole address
            raise StoreError(f"this is no address of a storage: {_scheme(url)}://…") from error
        if parts.scheme not in SCHEMES:
            known = listed(f"{scheme}://" for scheme in SCHEMES)
            raise StoreError(
                f"{parts.scheme}:// is no kind of storage: expected a path, file://, {known}"
            )
        if "@" in parts.netloc:
            raise StoreError(
                f"the {parts.scheme}:// address holds a user or a password: leave them out, they"
                " are taken from the environment"
            )
        if "?" in url or "#" in url:
            raise StoreError(f"{url.split('?')[0].split('#')[0]}: leave out what follows ? or #")
        if not parts.netloc:
            raise StoreError(f"{url} names no bucket: expected {parts.scheme}://BUCKET/PATH")
        return cls(parts.scheme, parts.netloc, parts.path.strip("/"))

    @property
    def url(self) -> str:
        """The URL, as a user would write it."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def is_plain_http(self) -> bool:
        """Whether this is a web server: files can be read by name, not listed or written."""
        return self.scheme in ("http", "https")


def _scheme(url: str) -> str:
    return url.partition("://")[0]
