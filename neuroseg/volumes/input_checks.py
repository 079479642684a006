"""A look at a volume before anything is made of it: its chunks and a sample of its values, refused or warned about."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import describe
from neuroseg.storage.remote import read_errors, reading, short_message
from neuroseg.volumes.stored_chunks import StoredChunks, stored_chunks
from neuroseg.volumes.values import (
    Finding,
    Range,
    Sample,
    label_findings,
    probability_findings,
    raw_findings,
    sample_of,
    sampled_boxes,
)
from neuroseg.volumes.volume import Volume

logger = logging.getLogger(__name__)


def sample_values(volume: Volume) -> Sample:
    """Return a sample of a volume's values; raises InputError when it cannot be read."""
    return sample_of([_read(volume, roi) for roi in sampled_boxes(volume.shape)])


def require_raw(volume: Volume, value_range: Range | None, *, chosen: bool, force: bool) -> None:
    """Raise InputError for values that no segmentation can come of, unless `force`; warns of what is suspicious.

    `chosen`: the user gave `value_range` (None: uint8 as it is), which answers the less certain findings.
    """
    require_stored(volume, force=force)
    _judge(volume, raw_findings(sample_values(volume), value_range, chosen=chosen), force=force)


def require_label_values(volume: Volume, *, force: bool = False, score: bool = True) -> None:
    """Raise InputError for an image in the place of labels, unless `force`; warns of missing chunks.

    Without `score` an image is a warning: where values are only copied, none is lost.
    """
    require_stored(volume, force=force)
    if volume.dtype.kind in "ui":
        _judge(volume, label_findings(sample_values(volume)), force=force or not score, hint="")


def require_probabilities(channels: Sequence[Volume], *, force: bool) -> None:
    """Raise InputError for 0 and 1 in uint8 as affinities or boundaries, unless `force`; warns of missing chunks.

    The channels are judged together: one of them may be nearly empty.
    """
    for volume in channels:
        require_stored(volume, force=True)
    findings = [probability_findings(sample_values(volume)) for volume in channels]
    if all(findings):
        _judge(channels[0], findings[0], force=force)


def require_stored(volume: Volume, *, force: bool) -> None:
    """Raise InputError when no chunk of a volume is stored, unless `force`; warns when many are missing."""
    chunks = chunks_of(volume)
    if chunks is None or chunks.stored == chunks.expected:
        return
    if not chunks.stored and not force:
        raise InputError(f"{volume.path}: {chunks}; check that the copy is complete, or use --force")
    if chunks.likely_incomplete:
        logger.warning("%s: %s, the rest reads as empty; check that the copy is complete", volume.path, str(chunks))


def chunks_of(volume: Volume) -> StoredChunks | None:
    """Return how much of a volume is stored; None where it has no chunks."""
    with reading(volume.path):
        return stored_chunks(volume.array, volume.layout.fixed)


def _judge(volume: Volume, findings: list[Finding], *, force: bool, hint: str = " (or --force)") -> None:
    for finding in findings:
        if finding.certain and not force:
            raise InputError(f"{volume.path}: {finding}{hint}")
        logger.warning("%s: %s", volume.path, finding)


def _read(volume: Volume, roi: Roi) -> NDArray[Any]:
    try:
        return np.asarray(volume.read(roi))
    except read_errors() as error:
        raise InputError(
            f"{volume.path} cannot be read at {describe(roi)}, is it damaged? ({short_message(error)})"
        ) from error
