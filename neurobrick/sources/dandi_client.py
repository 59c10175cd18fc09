"""dandi's own client of the archive, made patient and quiet.

It gets time-outs, which it lacks, and retries that end sooner than its own. Its log of errors is
switched off: `dandi` raises them. The dandi package is imported when a client is made, because
that takes most of a second.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from neurobrick.errors import SourceError
from neurobrick.sources.web.transport import Patience, patient

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient


def api_url(instance: str | None) -> str:
    """The address of the API of an archive, ending in /api; the public archive's for None.

    Raises SourceError for text that is no address.
    """
    if not instance:
        from dandi.consts import known_instances

        return str(known_instances["dandi"].api)
    if not re.match(r"https?://[^/]", instance):
        raise SourceError(f"{instance!r} is not the address of a DANDI API: https://HOST/api")
    return instance.rstrip("/").removesuffix("/api") + "/api"


def archive_client(url: str, patience: Patience) -> DandiAPIClient:
    """The archive's client with `Transport` beneath it; no request is sent yet."""
    # Or the client would ask a third host whether it is the newest version.
    os.environ.setdefault("DANDI_NO_ET", "1")
    from dandi.consts import DandiInstance
    from dandi.dandiapi import DandiAPIClient

    if "DANDI_LOG_LEVEL" not in os.environ:  # it logs, as errors, what is raised here anyway
        logging.getLogger("dandi").setLevel(logging.CRITICAL)
    # An instance of our own: given a URL, the client looks around with requests without time-out.
    client = DandiAPIClient(dandi_instance=DandiInstance(urlsplit(url).netloc, None, url))
    patient(client.session, patience)
    return client


def check_server(client: DandiAPIClient) -> None:
    """Raise SourceError where the archive does not serve this version of its client."""
    import dandi
    from packaging.version import Version

    info = client.get("/info/")
    if not isinstance(info, dict) or "cli-minimal-version" not in info:
        raise ValueError("this is some other server")
    oldest, bad = info["cli-minimal-version"], info["cli-bad-versions"]
    installed = Version(dandi.__version__)
    if installed < Version(oldest) or installed in [Version(v) for v in bad]:
        raise SourceError(
            f"the archive at {client.api_url} needs dandi {oldest} or later, and none of "
            f"{bad}; {installed} is installed: pip install -U dandi"
        )
