"""Volumes that lie on a server: s3://, gs://, az://, http:// and https://, read through obstore.

Credentials and servers come from the environment, as each service's own tools read it (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, AWS_SKIP_SIGNATURE=true for public buckets, ...). A request that fails is tried again, later and
later.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from neuroseg.errors import InputError

SCHEMES = ("s3", "gs", "az", "http", "https")
# A server that is gone for minutes costs a run nothing but time.
_GIVE_UP = timedelta(minutes=5)
_FIRST_WAIT, _LONGEST_WAIT = timedelta(milliseconds=200), timedelta(seconds=15)
_MOST_TRIES = 60
_ONE_REQUEST = timedelta(seconds=60)


def is_remote(address: str) -> bool:
    """Return whether an address names a place on a server; raises InputError for a scheme that is not read."""
    scheme, found, _ = address.partition("://")
    if not found:
        return False
    if scheme not in SCHEMES:
        raise InputError(f"{address}: {scheme}:// is not read; valid: {', '.join(f'{name}://' for name in SCHEMES)}")
    return True


def remote_store(address: str) -> Any:
    """Return the zarr store at an address, read-only; raises InputError when obstore is missing or refuses it."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise InputError(f"{address}: volumes on servers need obstore: pip install 'neuroseg[remote]'") from error
    from zarr.storage import ObjectStore

    # Servers of a lab, and those that only this machine sees, rarely have certificates.
    plain = address.startswith("http://") or os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    try:
        store = from_url(
            address,
            client_options={"allow_http": plain, "timeout": _ONE_REQUEST},
            retry_config={
                "max_retries": _MOST_TRIES,
                "retry_timeout": _GIVE_UP,
                "backoff": {"init_backoff": _FIRST_WAIT, "max_backoff": _LONGEST_WAIT, "base": 2.0},
            },
        )
    except (BaseError, ValueError) as error:
        raise InputError(f"{address} cannot be read: {error}") from error
    return ObjectStore(store, read_only=True)
