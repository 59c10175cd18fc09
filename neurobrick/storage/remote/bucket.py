"""Objects below a URL, through obstore. No other module knows obstore.

Every call waits for its answer. Other Python threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from neurobrick.errors import StoreError
from neurobrick.storage.address import Limits, StorageUrl
from neurobrick.storage.remote.failures import explained
from neurobrick.storage.remote.s3 import s3_access

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CHECKSUM = "SHA256"  # sent with each object, so that S3 refuses one that arrives damaged
AT_THE_SAME_TIME = "ConditionalRequestConflict"  # S3's code for two writers at once


class Bucket:
    """The objects below `place`. No request is made before a method is called."""

    def __init__(self, place: StorageUrl, limits: Limits) -> None:
        self._place = place
        self._limits = limits
        self._lock = Lock()
        self._anonymous = False
        self._server = place.url

    def get(self, name: str) -> bytes:
        """The content of an object. Raises FileNotFoundError."""
        return self.get_version(name)[0]

    def get_version(self, name: str) -> tuple[bytes, str]:
        """The content of an object, and its version. Raises FileNotFoundError."""
        with self._boundary(name) as store:
            import obstore

            answer = obstore.get(store, name)
            return bytes(answer.bytes()), self._version(answer.meta)

    def list(self, prefix: str) -> dict[str, int]:
        """The names that begin with `prefix`, and the bytes of each object."""
        self._must_be_a_bucket("listed")
        with self._boundary(prefix) as store:
            import obstore

            # obstore lists below whole path segments only.
            listing = obstore.list(store, prefix.rpartition("/")[0] or None, chunk_size=1000)
            return {
                entry["path"]: entry["size"]
                for page in listing
                for entry in page
                if entry["path"].startswith(prefix)
            }

    def put(self, name: str, content: bytes) -> None:
        """Write an object, whole or not at all."""
        self._must_be_a_bucket("written")
        with self._boundary(name) as store:
            import obstore

            obstore.put(store, name, content, use_multipart=False)

    def put_if(self, name: str, content: bytes, version: str | None) -> str | None:
        """Write an object if it still has this `version`; for None, if it does not exist.

        Returns the new version, or None when another writer was faster.
        """
        self._must_be_a_bucket("written")
        mode: PutMode = "create"
        if version is not None:
            mode = {"version": version} if self._by_generation else {"e_tag": version}
        with self._boundary(name) as store:
            import obstore
            from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

            try:
                made = obstore.put(store, name, content, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return None
            except BaseError as error:
                if AT_THE_SAME_TIME in str(error):
                    return None
                raise
            return self._version(made)

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; absent ones are no error."""
        self._must_be_a_bucket("written")
        if self._place.scheme == "s3":  # a thousand in a request; absent ones are no error
            with self._boundary("") as store:
                import obstore

                return obstore.delete(store, list(names))
        for name in names:
            with self._boundary(name) as store:
                import obstore

                try:
                    obstore.delete(store, name)
                except FileNotFoundError:
                    continue

    @property
    def _by_generation(self) -> bool:
        """Whether a version is a generation number (Google), not an ETag."""
        return self._place.scheme == "gs"

    def _version(self, meta: Any) -> str:
        return str(meta["version" if self._by_generation else "e_tag"] or "")

    def _must_be_a_bucket(self, done: str) -> None:
        if self._place.is_plain_http:
            raise StoreError(
                f"{self._place.url} is read over plain HTTP and cannot be {done}: use its s3://,"
                " gs:// or az:// address, if it has one"
            )

    @contextmanager
    def _boundary(self, name: str) -> Iterator[ObjectStore]:
        """obstore's store. Its exceptions become neurobrick's."""
        _require(self._place)
        from obstore.exceptions import BaseError

        try:
            with self._lock:
                store = self._store
            yield store
        except (BaseError, OSError, ValueError) as error:
            # Without the cause, which quotes the answer of the server.
            raise explained(error, self._place, name, self._anonymous, self._server) from None

    @cached_property
    def _store(self) -> ObjectStore:
        from obstore import store as obstores

        place, patience = self._place, self._patience()
        prefix = place.prefix or None
        if place.is_plain_http:
            options = self._options(insecure=place.scheme == "http")
            return obstores.HTTPStore(place.url, client_options=options, retry_config=patience)
        options = self._options()
        if place.scheme == "gs":
            return obstores.GCSStore(
                place.bucket, prefix=prefix, client_options=options, retry_config=patience
            )
        if place.scheme == "az":
            return obstores.AzureStore(
                place.bucket, prefix=prefix, client_options=options, retry_config=patience
            )
        access = s3_access(place.bucket)
        self._anonymous = access.credentials is None
        self._server = access.endpoint or f"Amazon S3 in {access.region}"
        insecure = bool(access.endpoint) and str(access.endpoint).startswith("http://")
        return obstores.S3Store(
            place.bucket,
            prefix=prefix,
            config={
                "region": access.region,
                "checksum_algorithm": CHECKSUM,
                "skip_signature": self._anonymous,
                **({"endpoint": access.endpoint} if access.endpoint else {}),
            },
            client_options=self._options(insecure),
            retry_config=patience,
            credential_provider=access.credentials,
        )

    def _options(self, insecure: bool = False) -> ClientConfig:
        return {
            "allow_http": insecure,
            "connect_timeout": timedelta(seconds=self._limits.connect),
            "read_timeout": timedelta(seconds=self._limits.stall),
            "timeout": timedelta(minutes=5),  # of a whole request, on a slow line
        }

    def _patience(self) -> RetryConfig:
        return {
            "max_retries": self._limits.retries,
            "retry_timeout": timedelta(seconds=self._limits.retry_within),
            "backoff": {
                "init_backoff": timedelta(seconds=self._limits.first_wait),
                "max_backoff": timedelta(seconds=self._limits.longest_wait),
                "base": 2,
            },
        }


def _require(place: StorageUrl) -> None:
    """Raise StoreError unless obstore, and boto3 for S3, are installed."""
    try:
        import obstore  # noqa: F401

        if place.scheme == "s3":
            import boto3  # noqa: F401
    except ImportError as error:
        raise StoreError(
            f"{place.url} needs obstore and boto3: pip install obstore boto3"
        ) from error
