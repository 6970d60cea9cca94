"""A PUT that S3 itself refuses if the object exists: of two writers at once, one wins.

pyarrow has no such PUT, obstore has one. It finds keys in the environment and on AWS's machines, but not in ~/.aws, and
some stores support no condition. So the caller handles its failure.
"""

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

_log = logging.getLogger(__name__)
_works: dict[str, bool] = {}
"""The buckets, with True if such a PUT has succeeded in this process; after a failed first one no other is tried."""


def put_new(place: str, options: str, region: str, data: bytes) -> bool | None:
    """Write an object of S3 at `place` (bucket/key). False if it exists; None if that is unknown.

    `options` are those of a store's address, "?endpoint_override=host:9000&scheme=http".
    """
    bucket, _, key = place.partition("/")
    if _works.get(bucket) is False:
        return None
    try:
        from obstore import exceptions, put
    except ImportError:  # core runs without it
        return None
    try:
        with suppress(exceptions.AlreadyExistsError):
            put(_opened(bucket, options, region), key, data, mode="create", use_multipart=False)
            return _works.setdefault(bucket, True)
        return False
    except Exception as error:  # of many kinds: no keys, no network, an unknown name or condition
        _works.setdefault(bucket, False)
        _log.debug("no conditional PUT to %s: %s", bucket, type(error).__name__)
        return None


def _opened(bucket: str, options: str, region: str) -> "S3Store":
    """Open the bucket as pyarrow does: by the options of the address, then by the environment."""
    from obstore.store import S3Store

    given = {key: values[0] for key, values in parse_qs(options.removeprefix("?")).items()}
    host, variables = given.get("endpoint_override", ""), ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    address = f"{given.get('scheme', 'https')}://{host}" if host else ""
    address = address or next((os.environ[name] for name in variables if os.environ.get(name)), "")
    config: S3Config = {"region": region}
    if address:
        config["endpoint"] = address
    return S3Store(
        bucket,
        config=config,
        client_options={"allow_http": address.startswith("http://"), "connect_timeout": "5s", "timeout": "30s"},
        retry_config={"max_retries": 1},
    )
