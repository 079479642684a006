"""The state of neuroglancer in which a viewer begins: layers, position, zoom, contrast.

https://neuroglancer-docs.web.app/json/api/index.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from funlib.geometry import Roi

from neuroseg.geometry import Nanometres
from neuroseg.viewer.layers import AFFINITIES, IMAGE, Layer

# Stands for the address of the server: a browser may reach it at another one (ssh -L).
SERVER = "SERVER"
_METRES = 1e-9
_SAMPLED_VOXELS = 128
# The least height of a view on a small screen.
_VIEW_PIXELS = 340
_RGB = """void main() {
  emitRGB(vec3(toNormalized(getDataValue(0)), toNormalized(getDataValue(1)), toNormalized(getDataValue(2))));
}
"""
_GREY = """#uicontrol invlerp normalized(range=[%g, %g])
void main() {
  emitGrayscale(normalized());
}
"""
_MARKS = """void main() {
  setColor(prop_color());
  setPointMarkerSize(9.0);
  setEndpointMarkerSize(9.0);
  setLineWidth(3.0);
}
"""
# A viewer begins with raw and segmentation, which would be hard to see below others.
_HIDDEN = ("affinities", "fragments", "truth")


def initial_state(
    title: str, layers: Iterable[Layer], versions: Mapping[str, str], extent: Roi, middle: Sequence[float]
) -> dict[str, Any]:
    """Return the state for layers. `versions` has the version of each layer by its name (session.py).

    The views begin with a size that shows `extent`, at `middle`, both in voxels (z, y, x) of the first layer.
    """
    layers = list(layers)
    first = layers[0]
    extents = [n * size for n, size in zip(extent.shape, first.voxel_size_nm, strict=True)]
    smallest = min(first.voxel_size_nm)
    visible = [layer for layer in layers if layer.name not in _HIDDEN] or layers
    return {
        "title": title,
        "dimensions": _dimensions(first.voxel_size_nm),
        "position": [
            at + offset / size for at, offset, size in zip(middle, first.offset_nm, first.voxel_size_nm, strict=True)
        ][::-1],
        "crossSectionScale": max(extents) / smallest / _VIEW_PIXELS,
        "projectionScale": 1.5 * max(extents) / smallest,
        "layers": [_layer(layer, first, versions[layer.name], visible=layer in visible) for layer in layers],
        "selectedLayer": {"layer": visible[-1].name, "visible": False},
        "layout": "4panel",
        "showSlices": True,
    }


def source(layer: Layer, first: Layer, version: str) -> dict[str, Any]:
    """Return the source of a layer: its address, and its position among voxels of the layer `first`."""
    shift = [[offset / size for offset, size in zip(layer.offset_nm, first.voxel_size_nm, strict=True)][::-1]]
    matrix = np.hstack([np.eye(3), np.array(shift).T]).tolist()
    outputs = _dimensions(first.voxel_size_nm)
    inputs = _dimensions(layer.voxel_size_nm)
    if layer.channels > 1:
        matrix = [[*row[:3], 0, row[3]] for row in matrix] + [[0, 0, 0, 1, 0]]
        outputs, inputs = {**outputs, "c^": [1, ""]}, {**inputs, "c^": [1, ""]}
    return {
        "url": f"precomputed://{SERVER}/{layer.name}/{version}",
        "transform": {"matrix": matrix, "outputDimensions": outputs, "inputDimensions": inputs},
    }


def _layer(layer: Layer, first: Layer, version: str, *, visible: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"name": layer.name, "visible": visible, "source": source(layer, first, version)}
    if layer.kind == AFFINITIES:
        return {
            **described,
            "type": "image",
            "shader": _RGB,
            "opacity": 1.0,
        }
    if layer.kind == IMAGE:
        return {**described, "type": "image", "shader": _GREY % contrast(layer)}
    return {**described, "type": "segmentation", "selectedAlpha": 0.35, "notSelectedAlpha": 0.12, "segments": []}


def annotation_layer(name: str, first: Layer) -> dict[str, Any]:
    """Return the layer for the places to inspect, without them.

    It is not in the initial state: with a layer of annotations, the client sometimes loses another layer when it
    begins. The page adds it later.
    """
    return {
        "type": "annotation",
        "name": name,
        "source": {
            "url": "local://annotations",
            "transform": {"outputDimensions": _dimensions(first.voxel_size_nm)},
        },
        "annotationProperties": [{"id": "color", "type": "rgb"}],
        "annotations": [],
        "shader": _MARKS,
    }


def contrast(layer: Layer) -> tuple[float, float]:
    """Return the range of values to show from black to white: percentiles 1 and 99 of a box in the middle."""
    shape = [min(_SAMPLED_VOXELS, n) for n in layer.shape]
    begin = [(n - size) // 2 for n, size in zip(layer.shape, shape, strict=True)]
    values = layer.read(Roi(begin, shape)).astype(np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (1, 99)) if values.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def _dimensions(size_nm: Nanometres) -> dict[str, list[Any]]:
    return {axis: [size * _METRES, "m"] for axis, size in zip("xyz", size_nm[::-1], strict=True)}
