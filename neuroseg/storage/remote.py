"""What lies on a server: s3://, gs://, az://, and for reading http:// and https://, through obstore.

Credentials and servers come from the environment, as each service's own tools read it (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, AWS_SKIP_SIGNATURE=true for public buckets, ...). A request that fails is tried again, later and
later; who does not answer at all when a volume is opened is not waited for as long.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from neuroseg.errors import InputError

_WRITABLE = ("s3", "gs", "az")
SCHEMES = (*_WRITABLE, "http", "https")
# A server that is gone for minutes costs a run nothing but time.
_PATIENCE, _FIRST_PATIENCE = timedelta(minutes=5), timedelta(seconds=10)
_FIRST_WAIT, _LONGEST_WAIT = timedelta(milliseconds=200), timedelta(seconds=15)
_MOST_TRIES = 60
_ONE_REQUEST = timedelta(seconds=60)
_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


def is_remote(address: str) -> bool:
    """Return whether an address names a place on a server; raises InputError for one that is not read.

    Credentials do not belong into addresses: they would end in logs and in the workspace.
    """
    found = re.match(r"([a-z][a-z0-9+.-]*)://([^/]*)", address)
    if found is None:
        return False
    scheme, host = found.groups()
    if scheme not in SCHEMES:
        raise _unknown_scheme(address, scheme, ", ".join(f"{name}://" for name in SCHEMES))
    if "@" in host or "?" in address:
        raise InputError(f"{scheme}://...: give no user and no query in an address; credentials go in the environment")
    return True


def is_writable(address: str) -> bool:
    """Return whether a server of this kind takes what is written."""
    return address.partition("://")[0] in _WRITABLE


def require_writable(address: str) -> None:
    """Raise InputError for an address on a server that only hands out."""
    scheme = address.partition("://")[0]
    if not is_writable(address):
        raise InputError(
            f"{address}: {scheme}:// can be read, not written; valid: {', '.join(f'{name}://' for name in _WRITABLE)}"
        )


def remote_store(address: str, *, opening: bool = False, writable: bool = False) -> Any:
    """Return the zarr store at an address; raises InputError when obstore is missing or refuses it.

    A store for `opening` gives up a request after ten seconds, others after five minutes.
    """
    store = object_store(address, opening=opening)
    from zarr.storage import ObjectStore

    return ObjectStore(store, read_only=not writable)


def object_store(address: str, *, opening: bool = False) -> Any:
    """Return obstore's store of the objects below an address, with the patience of `remote_store`."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise InputError(f"{address}: what lies on servers needs obstore: pip install 'neuroseg[remote]'") from error
    with told_plainly(address):
        return from_url(
            address,
            client_options={"allow_http": _allows_http(address), "timeout": _ONE_REQUEST},
            retry_config={
                "max_retries": _MOST_TRIES,
                "retry_timeout": _FIRST_PATIENCE if opening else _PATIENCE,
                "backoff": {"init_backoff": _FIRST_WAIT, "max_backoff": _LONGEST_WAIT, "base": 2.0},
            },
        )


@contextmanager
def told_plainly(address: str) -> Iterator[None]:
    """Turn what obstore says of an address into an InputError of a few lines."""
    try:
        yield
    except refusals() as error:
        raise InputError(f"{address} cannot be read: {in_short(error)}") from error


def in_short(error: Exception) -> str:
    """Return what obstore says of a request, without its debugging output."""
    return str(error).partition("\n\nDebug source")[0]


def refusals() -> tuple[type[Exception], ...]:
    """Return the errors by which a volume refuses to be read, on a disk or on a server."""
    if "obstore" not in sys.modules:
        return (OSError, RuntimeError, ValueError)
    from obstore.exceptions import BaseError

    return (OSError, RuntimeError, ValueError, BaseError)


def _allows_http(address: str) -> bool:
    """Return whether a server without certificates was asked for: those of a lab rarely have any."""
    asked = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return (
        asked or address.startswith("http://") or any(os.environ.get(n, "").startswith("http://") for n in _ENDPOINTS)
    )


def _unknown_scheme(address: str, scheme: str, valid: str) -> InputError:
    """Return the error for an address of a kind that is not read: what to write instead."""
    rest = address.partition("://")[2].removeprefix("|")
    if scheme in ("zarr", "zarr2", "zarr3") and rest:
        fix = f"; leave {scheme}:// out: {rest}"
    elif scheme == "file":
        fix = f"; give the path: {rest or '/...'}"
    elif scheme in ("precomputed", "n5"):
        driver = "neuroglancer_precomputed" if scheme == "precomputed" else "n5"
        fix = f"; copy it to zarr, for example with tensorstore (from its driver {driver} to zarr3)"
    else:
        fix = ""
    return InputError(f"{address}: {scheme}:// is not read; valid: {valid}{fix}")
