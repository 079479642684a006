"""The identity of an input: its metadata and checksums of its voxels, independent of its path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from neuroseg.configuration import Section
from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, describe
from neuroseg.storage.remote import read_errors
from neuroseg.volumes.volume import Volume

# Identities of other versions hash other data, such as the path. They cannot be compared.
_VERSION = "v2"
_CHECKSUM_LENGTH = 16


class Content(Section):
    """Metadata of an input, and either checksums of sampled boxes or one checksum of all voxels."""

    shape: Triple
    dtype: str
    voxel_size_nm: Nanometres | None
    offset_nm: Nanometres
    checksums: tuple[str, ...]
    view: str = ""  # axes, channel and time point that are read; empty for stored order and first indices

    @property
    def identity(self) -> str:
        """The hash of the input in done marks."""
        described = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return f"{_VERSION}:{hashlib.sha256(described.encode()).hexdigest()}"

    def changes_to(self, now: Content) -> str:
        """Return the differences between this content and `now` in words, or an empty text."""
        changes = [
            f"its {what} was {old}, now {new}"
            for what, old, new in (
                ("shape", _by(self.shape), _by(now.shape)),
                ("type", self.dtype, now.dtype),
                ("voxel size", _nm(self.voxel_size_nm), _nm(now.voxel_size_nm)),
                ("offset", _nm(self.offset_nm), _nm(now.offset_nm)),
                ("order of axes, channel and time", self.view or "the first", now.view or "the first"),
            )
            if old != new
        ]
        if self.shape == now.shape and self.dtype == now.dtype and self.checksums != now.checksums:
            changes.append(_other_voxels(self.checksums, now.checksums))
        return ", ".join(changes)


def content_of(volume: Volume, checksums: Sequence[str] | None = None) -> Content:
    """Return the content of a volume. Without `checksums`, samples of its voxels are read, of every channel.

    Raises InputError if a sample cannot be read.
    """
    return Content(
        shape=volume.shape,
        dtype=str(volume.dtype),
        voxel_size_nm=volume.voxel_size_nm,
        offset_nm=volume.offset_nm,
        checksums=tuple(checksums if checksums is not None else sample_checksums(volume)),
        view=" ".join(map(str, volume.layout.stated())),
    )


def sample_checksums(volume: Volume) -> list[str]:
    """Return a checksum of each of the volume's samples, channel by channel. Raises InputError if one is unreadable."""
    checksums: list[list[str]] = []
    for roi in volume.samples():
        try:
            values = volume.read(roi)
        except read_errors() as error:
            reason = str(error).partition("\n\n")[0]
            raise InputError(
                f"cannot read voxels {describe(roi)} of {volume.path}: {reason}",
                hint="if the file is damaged, copy the volume again",
            ) from error
        channels = values if values.ndim == 4 else values[None]
        checksums.append([hashlib.sha256(each.tobytes()).hexdigest()[:_CHECKSUM_LENGTH] for each in channels])
    return [checksum for channel in zip(*checksums, strict=True) for checksum in channel]


def _other_voxels(old: Sequence[str], new: Sequence[str]) -> str:
    if len(old) != len(new):
        return f"it had {len(old)} sampled boxes, now {len(new)}"
    if len(old) == 1:
        return "its values differ"
    differing = sum(a != b for a, b in zip(old, new, strict=True))
    return f"{differing} of {len(old)} sampled boxes differ"


def _by(values: Sequence[int]) -> str:
    return " x ".join(map(str, values))


def _nm(values: Nanometres | None) -> str:
    return "unknown" if values is None else f"{' x '.join(f'{value:g}' for value in values)} nm"
