"""Credentials, region and endpoint of S3, found as AWS's own tools find them.

They come from the environment, the profile, SSO, or the role of the machine. Without credentials,
requests are not signed; public buckets need none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from neurobrick.errors import StoreError

if TYPE_CHECKING:
    from botocore.session import Session

DEFAULT_REGION = "us-east-1"
# The credentials that botocore gives are valid for at least ten more minutes.
CREDENTIALS_LAST = timedelta(minutes=10)


@dataclass(frozen=True)
class S3Access:
    """How a bucket is reached."""

    region: str
    endpoint: str | None  # URL; None is Amazon's own
    credentials: Any | None = field(repr=False)  # obstore's provider; None: requests are not signed


def s3_access(bucket: str) -> S3Access:
    """The access that the environment gives now. Raises StoreError when it contradicts itself."""
    import botocore.session
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = botocore.session.Session()
    try:
        endpoint = _endpoint(session)
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise StoreError(f"the AWS settings cannot be used for s3://{bucket}: {error}") from error
    return S3Access(
        region or (DEFAULT_REGION if endpoint else bucket_region(session, bucket)),
        endpoint,
        Boto3CredentialProvider(session, ttl=CREDENTIALS_LAST) if credentials else None,
    )


def bucket_region(session: Session, bucket: str, endpoint: str | None = None) -> str:
    """The region that the bucket answers to anyone, or the default region."""
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    settings = Config(
        signature_version=UNSIGNED,
        connect_timeout=5,
        read_timeout=5,
        retries={"total_max_attempts": 2},
    )
    try:
        client = session.create_client("s3", DEFAULT_REGION, endpoint_url=endpoint, config=settings)
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:  # a refusal names the region, too
        answer = error.response
    except BotoCoreError:  # the request itself will say what is wrong
        return DEFAULT_REGION
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region", DEFAULT_REGION))


def _endpoint(session: Session) -> str | None:
    """The endpoint of the environment or the profile, in the order of AWS's tools."""
    if str(session.get_config_variable("ignore_configured_endpoint_urls")).lower() == "true":
        return None
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or services.get("s3", {}).get("endpoint_url")
        or profile.get("endpoint_url")
    )
    return endpoint.rstrip("/") if endpoint else None
