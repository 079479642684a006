"""Unsupported formats. The error names each format, and the hint shows the command that converts it."""

from __future__ import annotations

import re
from pathlib import Path

from neuroseg.errors import InputError

_THEN = "then run neuroseg import {stem}.tif -o {stem}.zarr --voxel-size Z Y X"


def _by_python(install: str, imports: str, values: str, note: str = "") -> str:
    """Return the commands that write an array as TIFF.

    `photometric` is needed: without it tifffile stores 3 or 4 sections as colours.
    """
    code = f"import {imports}, tifffile; tifffile.imwrite('{{stem}}.tif', {values}, photometric='minisblack')"
    return f'convert it: pip install {install}; python -c "{code}"{note}, {_THEN}'


_TURNED = " (this turns x y z into z y x)"
_FIJI = f"open it in Fiji (File > Import > Bio-Formats), save it as TIFF, {_THEN}"
_CONVERT = (
    "convert it to OME-NGFF: bioformats2raw {path} {stem}.ome.zarr, then check it with neuroseg info {stem}.ome.zarr/0"
)
_NUMPY = _by_python("tifffile", "numpy", "numpy.load('{path}')")
_MRC = _by_python("mrcfile tifffile", "mrcfile", "mrcfile.read('{path}')")
_NIFTI = _by_python("nibabel tifffile", "nibabel, numpy", "numpy.asarray(nibabel.load('{path}').dataobj).T", _TURNED)
_NRRD = _by_python("pynrrd tifffile", "nrrd", "nrrd.read('{path}')[0].T", _TURNED)
_IMAGES = (
    "convert it to PNG: magick mogrify -format png {path}, then import the folder of PNG files: "
    "neuroseg import FOLDER -o V.zarr --voxel-size Z Y X"
)
_VIDEO = (
    "extract its frames: mkdir sections; ffmpeg -i {path} sections/%05d.png, then run "
    "neuroseg import sections -o {stem}.zarr --voxel-size Z Y X"
)
_STACK = (
    "import it: neuroseg import {path} -o {stem}.zarr --voxel-size Z Y X (for labels, add --labels), "
    "then use {stem}.zarr"
)
_TENSORSTORE = "copy it to zarr, for example with tensorstore (from its driver {driver} to zarr3)"
_WKW = (
    "convert it: pip install webknossos; webknossos export-as-tiff --source {path} --destination sections, then run "
    "neuroseg import sections -o {stem}.zarr --voxel-size Z Y X"
)
_INSIDE = "then give the path of the volume inside"
_ADVICE = {
    ("an MRC file", (".mrc", ".rec", ".map", ".mrcs")): _MRC,
    ("an NRRD file", (".nrrd", ".nhdr")): _NRRD,
    ("a NIfTI file", (".nii", ".nii.gz")): _NIFTI,
    ("a NumPy file", (".npy", ".npz")): _NUMPY,
    ("a microscope file", (".czi", ".lif", ".nd2", ".vsi", ".oib", ".oif", ".lsm", ".ims")): _CONVERT,
    ("a Digital Micrograph file", (".dm3", ".dm4")): _FIJI,
    ("a ZIP archive", (".zip",)): f"unpack it with unzip {{path}}, {_INSIDE}",
    ("an archive", (".tar", ".tar.gz", ".tgz", ".7z", ".rar")): f"unpack it, {_INSIDE}",
    ("a JPEG or bitmap image", (".jpg", ".jpeg", ".bmp", ".gif", ".webp")): _IMAGES,
    ("a video", (".mp4", ".avi", ".mov", ".mkv")): _VIDEO,
    ("a MATLAB file", (".mat",)): "if its version is 7.3 (HDF5), rename it to {stem}.h5 and give {stem}.h5:DATASET; "
    "otherwise save it again in MATLAB with save(..., '-v7.3')",
}  # fmt: skip
_IMAGE_SUFFIXES = (".tif", ".tiff", ".png")
_N5 = _TENSORSTORE.format(driver="n5")
_MARKER_CHARACTERS = 2000  # read from the start of a marker file
# A file in the folder, text that it contains, the kind of folder, and how to convert it.
_FOLDERS = (
    ("info", "neuroglancer_", "a precomputed dataset", _TENSORSTORE.format(driver="neuroglancer_precomputed")),
    ("attributes.json", "", "an N5 container", _N5),
    ("datasource-properties.json", "", "a WEBKNOSSOS dataset", _WKW),
    ("header.wkw", "", "a part of a WEBKNOSSOS dataset", _WKW.replace("{path}", "DATASET_FOLDER")),
)


def refuse_foreign(path: str, *, stacks: bool = False) -> None:
    """Raise InputError for a file or folder in an unsupported format. The hint shows how to convert it.

    Section images are refused unless `stacks`. A zarr is never refused, independent of its name.
    """
    place = Path(path)
    if place.is_dir():
        if any((place / marker).exists() for marker in ("zarr.json", ".zarray", ".zgroup", ".zattrs")):
            return
        found = _folder(place)
    else:
        found = _file(place, stacks=stacks) if place.exists() else None
    if found is not None:
        kind, advice = found
        stem = re.sub(r"\.(?:nii|tar|zarr)$", "", place.stem) or "volume"
        raise InputError(
            f"{path} is {kind}, expected {'a section stack, ' if stacks else ''}a zarr or an HDF5 dataset",
            hint=advice.format(path=path, stem=stem),
        )


def _file(path: Path, *, stacks: bool) -> tuple[str, str] | None:
    name = path.name.lower()
    if name.endswith(_IMAGE_SUFFIXES):
        return None if stacks else ("an image file", _STACK)
    for (kind, suffixes), advice in _ADVICE.items():
        if name.endswith(suffixes):
            return kind, advice
    return None


def _folder(path: Path) -> tuple[str, str] | None:
    if any(parent.suffix == ".n5" for parent in (path, *path.parents)):
        return "an N5 container", _N5
    for marker, inside, kind, advice in _FOLDERS:
        if (path / marker).is_file():
            with (path / marker).open(errors="replace") as file:
                if inside in file.read(_MARKER_CHARACTERS):
                    return kind, advice
    return None
