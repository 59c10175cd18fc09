"""What AWS's own tools would take for granted: credentials, region and endpoint.

They come from the environment, the profile, SSO, or the machine's role. Without any credentials
requests are not signed, so that public buckets need none.
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
# botocore hands out credentials that last ten minutes more, at the least
CREDENTIALS_LAST = timedelta(minutes=10)


@dataclass(frozen=True)
class S3Access:
    """Where the bucket is asked, and by whom. `credentials` is obstore's provider, never shown."""

    region: str
    endpoint: str | None
    credentials: Any | None = field(repr=False)


def s3_access(bucket: str) -> S3Access:
    """Of the environment as it is now. Raises StoreError when it contradicts itself."""
    import botocore.session
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = botocore.session.Session()
    try:
        endpoint = _endpoint(session)
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        found = session.get_credentials()
    except BotoCoreError as error:
        raise StoreError(f"the AWS settings cannot be used for s3://{bucket}: {error}") from error
    return S3Access(
        region or (DEFAULT_REGION if endpoint else bucket_region(session, bucket)),
        endpoint,
        Boto3CredentialProvider(session, ttl=CREDENTIALS_LAST) if found else None,
    )


def bucket_region(session: Session, bucket: str, endpoint: str | None = None) -> str:
    """Where the bucket is, as it tells anyone; the default region when it does not tell."""
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
    except ClientError as error:  # it tells where it is even when it refuses
        answer = error.response
    except BotoCoreError:  # the request itself will say what is wrong
        return DEFAULT_REGION
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region", DEFAULT_REGION))


def _endpoint(session: Session) -> str | None:
    """The endpoint that the environment or the profile names, in the order of AWS's tools."""
    if str(session.get_config_variable("ignore_configured_endpoint_urls")).lower() == "true":
        return None
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    found = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or services.get("s3", {}).get("endpoint_url")
        or profile.get("endpoint_url")
    )
    return found.rstrip("/") if found else None
