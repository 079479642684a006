"""The format `precomputed` of neuroglancer: the description of a layer, and the bytes of its chunks.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md (version 1)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import whole
from neuroseg.viewer.layers import LABELS, Layer
from neuroseg.viewer.sampled_levels import Level

# Flat chunks along each axis: a view of a plane then reads no other plane.
_CHUNKS_XYZ = ((256, 256, 1), (256, 1, 256), (1, 256, 256))
_BOX = re.compile(r"(\d+)-(\d+)_(\d+)-(\d+)_(\d+)-(\d+)")


def description(layer: Layer, levels: Sequence[Level]) -> dict[str, Any]:
    """Return the content of the file `info` of a layer. Its position is in the state (initial_state.py)."""
    return {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation" if layer.kind == LABELS else "image",
        "data_type": stored_type(layer).name,
        "num_channels": layer.channels,
        "scales": [_scale(layer, level, number) for number, level in enumerate(levels)],
    }


def stored_type(layer: Layer) -> np.dtype[Any]:
    """Return the type in which a layer is sent: uint64 for labels, and a type that neuroglancer knows for images."""
    if layer.kind == LABELS:
        return np.dtype(np.uint64)
    known = {"b": np.uint8, "f": np.float32}
    return np.dtype(known.get(layer.dtype.kind, layer.dtype)).newbyteorder("<")


def region_in(text: str, level: Level) -> Roi | None:
    """Return the region of a chunk's name, `x0-x1_y0-y1_z0-z1`. None for another name or a region outside."""
    found = _BOX.fullmatch(text)
    if found is None:
        return None
    x, y, z = [(int(found[n]), int(found[n + 1])) for n in (1, 3, 5)]
    roi = Roi([begin for begin, _ in (z, y, x)], [max(0, end - begin) for begin, end in (z, y, x)])
    return roi if roi.size and whole(level.shape).contains(roi) and roi.size <= np.prod(_CHUNKS_XYZ[0]) else None


def encoded(values: NDArray[Any], layer: Layer) -> bytes:
    """Return the bytes of a chunk `(z, y, x)` or `(c, z, y, x)`: little-endian, x fastest, channels last to change."""
    return np.ascontiguousarray(values, stored_type(layer)).tobytes()


def _scale(layer: Layer, level: Level, number: int) -> dict[str, Any]:
    size = [edge * factor for edge, factor in zip(layer.voxel_size_nm, level.factor, strict=True)]
    return {
        "key": str(number),
        "size": list(level.shape[::-1]),
        "resolution": size[::-1],
        "voxel_offset": [0, 0, 0],
        "chunk_sizes": [list(chunk) for chunk in _CHUNKS_XYZ],
        "encoding": "raw",
    }
