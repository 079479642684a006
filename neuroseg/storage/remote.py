"""Access to servers through obstore: s3://, gs:// and az://, and http:// and https:// for reading only.

Credentials and endpoints are read from the environment variables of each service (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
AWS_SKIP_SIGNATURE=true for public buckets, ...). A failed request is retried with increasing pauses. The time limit is
shorter while a volume is opened, so that a wrong address fails soon.
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
# Long enough that a run survives a server that is away for some minutes.
_RETRY_TIMEOUT, _OPENING_TIMEOUT = timedelta(minutes=5), timedelta(seconds=10)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(milliseconds=200), timedelta(seconds=15)
_MAX_RETRIES = 60
_REQUEST_TIMEOUT = timedelta(seconds=60)
_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


def is_remote(address: str) -> bool:
    """Return whether an address is on a server.

    Raises InputError for a scheme that is not supported, and for credentials in the address: they would be written to
    logs and to the workspace.
    """
    found = re.match(r"([a-z][a-z0-9+.-]*)://([^/]*)", address)
    if found is None:
        return False
    scheme, host = found.groups()
    if scheme not in SCHEMES:
        raise _unknown_scheme(address, scheme, ", ".join(f"{name}://" for name in SCHEMES))
    if "@" in host or "?" in address:
        raise InputError(
            f"the {scheme}:// address contains a user or a query",
            hint="remove it, and set credentials as environment variables",
        )
    return True


def is_writable(address: str) -> bool:
    """Return whether this kind of server can be written to."""
    return address.partition("://")[0] in _WRITABLE


def require_writable(address: str) -> None:
    """Raise InputError if this kind of server is read-only."""
    scheme = address.partition("://")[0]
    if not is_writable(address):
        raise InputError(
            f"{address}: cannot write to {scheme}:// addresses (valid: {', '.join(f'{name}://' for name in _WRITABLE)})"
        )


def remote_store(address: str, *, opening: bool = False, writable: bool = False) -> Any:
    """Return the zarr store at an address. Raises InputError if obstore is not installed or rejects the address.

    With `opening`, a request fails after ten seconds of retries, otherwise after five minutes.
    """
    store = object_store(address, opening=opening)
    from zarr.storage import ObjectStore

    return ObjectStore(store, read_only=not writable)


def object_store(address: str, *, opening: bool = False) -> Any:
    """Return obstore's store of the objects below an address, with the time limits of `remote_store`."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise InputError(
            f"cannot open {address}: the package obstore is not installed", hint="pip install 'neuroseg[remote]'"
        ) from error
    with reading(address):
        return from_url(
            address,
            client_options={"allow_http": _allows_http(address), "timeout": _REQUEST_TIMEOUT},
            retry_config={
                "max_retries": _MAX_RETRIES,
                "retry_timeout": _OPENING_TIMEOUT if opening else _RETRY_TIMEOUT,
                "backoff": {"init_backoff": _FIRST_PAUSE, "max_backoff": _LONGEST_PAUSE, "base": 2.0},
            },
        )


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Raise InputError with a short message if reading from an address fails."""
    try:
        yield
    except read_errors() as error:
        raise InputError(f"cannot read {address}: {short_message(error)}") from error


def short_message(error: Exception) -> str:
    """Return the message of an obstore error without its debugging output."""
    return str(error).partition("\n\nDebug source")[0]


def read_errors() -> tuple[type[Exception], ...]:
    """Return the types of errors that reading a volume may raise, on a disk or on a server."""
    if "obstore" not in sys.modules:
        return (OSError, RuntimeError, ValueError)
    from obstore.exceptions import BaseError

    return (OSError, RuntimeError, ValueError, BaseError)


def _allows_http(address: str) -> bool:
    """Return whether unencrypted http is allowed: servers of a lab rarely have certificates."""
    asked = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return (
        asked or address.startswith("http://") or any(os.environ.get(n, "").startswith("http://") for n in _ENDPOINTS)
    )


def _unknown_scheme(address: str, scheme: str, valid: str) -> InputError:
    """Return the error for an unsupported scheme. The hint names the address to use instead."""
    rest = address.partition("://")[2].removeprefix("|")
    if scheme in ("zarr", "zarr2", "zarr3") and rest:
        hint = f"use the address without {scheme}://: {rest}"
    elif scheme == "file":
        hint = f"use the path: {rest or '/...'}"
    elif scheme in ("precomputed", "n5"):
        driver = "neuroglancer_precomputed" if scheme == "precomputed" else "n5"
        hint = f"copy the volume to zarr, for example with tensorstore (from driver {driver} to driver zarr3)"
    else:
        hint = ""
    return InputError(f"{address}: {scheme}:// is not supported (valid: {valid})", hint=hint)
