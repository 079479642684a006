"""Checks of an input before a command starts: its stored chunks and a sample of its values. Errors or warnings."""

from __future__ import annotations

import logging
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
    """Return a sample of a volume's values. Raises InputError if it cannot be read."""
    return sample_of([_read(volume, roi) for roi in sampled_boxes(volume.shape)])


def _samples_of_channels(volume: Volume) -> list[Sample]:
    """Return a sample of each channel. Channels are read together, since one stored chunk may contain several."""
    boxes = [_read(volume, roi) for roi in sampled_boxes(volume.shape)]
    boxes = [box if box.ndim == 4 else box[None] for box in boxes]
    return [sample_of([box[channel] for box in boxes]) for channel in range(len(boxes[0]))]


def require_raw(volume: Volume, value_range: Range | None, *, chosen: bool, force: bool) -> None:
    """Raise InputError for values that cannot be segmented, unless `force`. Warn of suspicious values.

    `chosen`: the user gave `value_range` (None: uint8 without scaling), so less certain findings are dropped.
    """
    require_stored(volume, force=force)
    _report(volume, raw_findings(sample_values(volume), value_range, chosen=chosen), force=force)


def require_label_values(volume: Volume, *, force: bool = False, score: bool = True) -> None:
    """Raise InputError if labels look like an image, unless `force`. Warn of missing chunks.

    Without `score`, warn of an image instead: if values are only copied, none is lost.
    """
    require_stored(volume, force=force)
    if volume.dtype.kind in "ui":
        _report(volume, label_findings(sample_values(volume)), force=force or not score, alternative="")


def require_probabilities(stored: Volume, *, force: bool) -> None:
    """Raise InputError for affinities or boundaries of 0 and 1 in uint8, unless `force`. Warn of missing chunks.

    Only if all channels have this problem: one of them may be nearly empty.
    """
    for volume in stored.channels():
        require_stored(volume, force=True)
    findings = [probability_findings(sample) for sample in _samples_of_channels(stored)]
    if all(findings):
        _report(stored, findings[0], force=force)


def require_stored(volume: Volume, *, force: bool) -> None:
    """Raise InputError if no chunk of a volume is stored, unless `force`. Warn if many are missing."""
    chunks = chunks_of(volume)
    if chunks is None or chunks.stored == chunks.expected:
        return
    if not chunks.stored and not force:
        raise InputError(
            f"{volume.path}: {chunks}; missing chunks read as empty",
            hint="check that the copy is complete, or add --force",
        )
    if chunks.likely_incomplete:
        logger.warning(
            "%s: %s. The missing chunks read as empty. Check that the copy is complete", volume.path, str(chunks)
        )


def chunks_of(volume: Volume) -> StoredChunks | None:
    """Return the count of stored and missing chunks. None if the volume has no chunks."""
    with reading(volume.path):
        return stored_chunks(volume.array, volume.layout.fixed)


def _report(volume: Volume, findings: list[Finding], *, force: bool, alternative: str = ", or add --force") -> None:
    """Raise InputError for the first certain finding, unless `force`. Log the others as warnings."""
    for finding in findings:
        if finding.certain and not force:
            raise InputError(f"{volume.path}: {finding.problem}", hint=f"{finding.fix}{alternative}")
        logger.warning("%s: %s", volume.path, finding)


def _read(volume: Volume, roi: Roi) -> NDArray[Any]:
    try:
        return np.asarray(volume.read(roi))
    except read_errors() as error:
        raise InputError(
            f"cannot read voxels {describe(roi)} of {volume.path}: {short_message(error)}",
            hint="if the file is damaged, copy the volume again",
        ) from error
