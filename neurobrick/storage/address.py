"""Where an object storage is, and how patiently it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from neurobrick.errors import StoreError

SCHEMES = ("s3", "gs", "az", "https", "http")


@dataclass(frozen=True)
class Limits:
    """Seconds, and numbers, that bound what one call may take.

    A request that fails is made again, less and less often, until `retry_within` seconds after the
    first; none hangs longer than `connect` to be taken up, or `stall` without a byte.
    """

    retries: int = 10
    retry_within: float = 30.0
    connect: float = 5.0
    stall: float = 15.0
    at_once: int = 32  # requests


@dataclass(frozen=True)
class StorageUrl:
    """A URL in parts. `bucket` is a container on Azure, and the host of plain HTTP."""

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> StorageUrl:
        """Raises StoreError, without showing a password, when this is no URL of a storage."""
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
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
        """As a user would write it."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def is_plain_http(self) -> bool:
        """Whether this is a web server, of which files can be read by name and no more."""
        return self.scheme in ("http", "https")
