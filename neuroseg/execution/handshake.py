"""Both ends of a connection prove that they know the run's secret, without saying it.

    head    -> worker   a nonce
    worker  -> head     a nonce of its own, and HMAC-SHA256(secret, "worker", both)
    head    -> worker   HMAC-SHA256(secret, "head", both)

Whoever cannot answer is cut off before a byte of the scheduler's is passed on. What follows is neither encrypted nor
signed: who can rewrite packets between the machines can still interfere (docs/clusters.md).
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NONCE_BYTES = PROOF_BYTES = 32
_SECRET_BYTES = 32


def nonce() -> bytes:
    """Return bytes that were never used before."""
    return secrets.token_bytes(NONCE_BYTES)


def proof(secret: bytes, role: str, of_head: bytes, of_worker: bytes) -> bytes:
    """Return what shows that `role` (worker or head) knows the secret, for these two nonces alone."""
    return hmac.digest(secret, role.encode() + of_head + of_worker, "sha256")


def is_proof(shown: bytes, secret: bytes, role: str, of_head: bytes, of_worker: bytes) -> bool:
    """Return whether `shown` is the proof, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(shown, proof(secret, role, of_head, of_worker))


@contextmanager
def new_secret(path: Path) -> Iterator[bytes]:
    """Write a new secret that this user alone can read; it is removed when the context is left."""
    path.unlink(missing_ok=True)
    secret = secrets.token_bytes(_SECRET_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        yield secret
    finally:
        path.unlink(missing_ok=True)
