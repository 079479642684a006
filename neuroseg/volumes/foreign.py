"""Formats that are not read: each is named with the command that makes one of them that is."""

from __future__ import annotations

import re
from pathlib import Path

from neuroseg.errors import InputError

_THEN = "then: neuroseg import {stem}.tif -o {stem}.zarr --voxel-size Z Y X"


def _by_python(install: str, imports: str, values: str, note: str = "") -> str:
    """Return the command that writes an array as TIFF; 3 or 4 sections would be colours without `photometric`."""
    code = f"import {imports}, tifffile; tifffile.imwrite('{{stem}}.tif', {values}, photometric='minisblack')"
    return f'pip install {install}; python -c "{code}"{note}, {_THEN}'


_TURNED = " (x y z becomes z y x)"
_FIJI = f"open it in Fiji (File > Import > Bio-Formats) and save it as TIFF, {_THEN}"
_CONVERT = "bioformats2raw {path} {stem}.ome.zarr (OME-NGFF), then: neuroseg info {stem}.ome.zarr/0"
_NUMPY = _by_python("tifffile", "numpy", "numpy.load('{path}')")
_MRC = _by_python("mrcfile tifffile", "mrcfile", "mrcfile.read('{path}')")
_NIFTI = _by_python("nibabel tifffile", "nibabel, numpy", "numpy.asarray(nibabel.load('{path}').dataobj).T", _TURNED)
_NRRD = _by_python("pynrrd tifffile", "nrrd", "nrrd.read('{path}')[0].T", _TURNED)
_IMAGES = "magick mogrify -format png {path}, then: neuroseg import FOLDER -o V.zarr --voxel-size Z Y X"
_VIDEO = "ffmpeg -i {path} sections/%05d.png, then: neuroseg import sections -o {stem}.zarr --voxel-size Z Y X"
_STACK = "neuroseg import {path} -o {stem}.zarr --voxel-size Z Y X (labels: add --labels), then use {stem}.zarr"
_TENSORSTORE = "copy it to zarr, for example with tensorstore (from its driver {driver} to zarr3)"
_WKW = (
    "pip install webknossos; webknossos export-as-tiff --source {path} --destination sections, then: neuroseg import "
    "sections -o {stem}.zarr --voxel-size Z Y X"
)
_ADVICE = {
    ("MRC", (".mrc", ".rec", ".map", ".mrcs")): _MRC,
    ("NRRD", (".nrrd", ".nhdr")): _NRRD,
    ("NIfTI", (".nii", ".nii.gz")): _NIFTI,
    ("NumPy", (".npy", ".npz")): _NUMPY,
    ("microscope", (".czi", ".lif", ".nd2", ".vsi", ".oib", ".oif", ".lsm", ".ims")): _CONVERT,
    ("Digital Micrograph", (".dm3", ".dm4")): _FIJI,
    ("ZIP", (".zip",)): "unpack it: unzip {path}, then name what is inside",
    ("archive", (".tar", ".tar.gz", ".tgz", ".7z", ".rar")): "unpack it, then name what is inside",
    ("JPEG or bitmap", (".jpg", ".jpeg", ".bmp", ".gif", ".webp")): _IMAGES,
    ("video", (".mp4", ".avi", ".mov", ".mkv")): _VIDEO,
    ("MATLAB", (".mat",)): "files of version 7.3 are HDF5: rename it to {stem}.h5, then name its dataset; older ones: "
    "save(..., '-v7.3')",
}  # fmt: skip
_IMAGE_SUFFIXES = (".tif", ".tiff", ".png")
_N5 = _TENSORSTORE.format(driver="n5")
_LOOKED_AT = 2000  # characters of that file
# A file in the folder, what it holds, and what the folder then is.
_FOLDERS = (
    ("info", "neuroglancer_", "a precomputed dataset", _TENSORSTORE.format(driver="neuroglancer_precomputed")),
    ("attributes.json", "", "an N5 container", _N5),
    ("datasource-properties.json", "", "a WEBKNOSSOS dataset", _WKW),
    ("header.wkw", "", "a part of a WEBKNOSSOS dataset", _WKW),
)


def refuse_foreign(path: str, *, stacks: bool = False) -> None:
    """Raise InputError for a file or folder in a format that is not read, with how to convert it.

    Section images are foreign too, except where `stacks` are taken. A zarr is never refused, whatever its name.
    """
    place = Path(path)
    if place.is_dir():
        if any((place / marker).exists() for marker in ("zarr.json", ".zarray", ".zgroup", ".zattrs")):
            return
        named = _folder(place)
    else:
        named = _file(place, stacks=stacks) if place.exists() else None
    if named is not None:
        what, advice = named
        stem = re.sub(r"\.(?:nii|tar|zarr)$", "", place.stem) or "volume"
        raise InputError(f"{path} is {what}, which is not read here; {advice.format(path=path, stem=stem)}")


def _file(path: Path, *, stacks: bool) -> tuple[str, str] | None:
    name = path.name.lower()
    if name.endswith(_IMAGE_SUFFIXES):
        return None if stacks else ("an image (or a stack of them)", _STACK)
    for (what, suffixes), advice in _ADVICE.items():
        if name.endswith(suffixes):
            return f"a file of type {what}", advice
    return None


def _folder(path: Path) -> tuple[str, str] | None:
    if any(parent.suffix == ".n5" for parent in (path, *path.parents)):
        return "an N5 container", _N5
    for marker, inside, what, advice in _FOLDERS:
        if (path / marker).is_file():
            with (path / marker).open(errors="replace") as file:
                if inside in file.read(_LOOKED_AT):
                    return what, advice
    return None
