"""Images of TIFF files: descriptions by ImageJ, OME, tifffile and microscopes -> axes and pages.

Without a description every page is a section. A description that does not match the pages is an error, unless the user
names the axes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from xml.etree import ElementTree

from tifffile import TiffFile, TiffPageSeries

from neuroseg.errors import InputError
from neuroseg.volumes.selection import Selection
from neuroseg.volumes.tiff_axes import described
from neuroseg.volumes.tiff_voxel_size import UNKNOWN, PartialSize, stated_size

# Errors of tifffile on broken files and on metadata that do not follow their format.
BROKEN = (
    OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, ArithmeticError,
    AssertionError, struct.error,
)  # fmt: skip
_PLAIN_KINDS = ("generic", "uniform")
# Descriptions of the arrangement of pages. If tifffile cannot use one, it is not certain that pages are sections.
_DESCRIPTIONS = {"ome": "OME", "imagej": "ImageJ", "shaped": "tifffile", "lsm": "LSM", "stk": "MetaMorph"}
_DESCRIBES_ALL_PAGES = ("ome", "imagej", "shaped")
_LISTED_AT_MOST = 8


class PageAt(NamedTuple):
    """A page of a TIFF file. With `bare`, the section with that number (from 0) of the sections stored after the page.

    Such sections have no headers.
    """

    path: Path
    page: int
    bare: int | None = None


@dataclass(frozen=True)
class TiffImage:
    """One image of a TIFF: its axes without those of size one, and its pages in the order of the leading axes.

    `page_axes` is the number of last axes that lie within a page.
    """

    axes: str
    shape: tuple[int, ...]
    page_axes: int
    pages: tuple[PageAt, ...]
    voxel_size_nm: PartialSize = UNKNOWN


def image_in(path: Path, selection: Selection) -> TiffImage:
    """Return the image of a TIFF that the selection names, or the only one.

    Raises InputError if there are several, if pages are missing, and if the file's description of its pages is damaged
    or does not match them.
    """
    try:
        with TiffFile(path) as tiff:
            return _image_in(path, tiff, selection)
    except BROKEN as error:
        raise InputError(f"{path} is not a readable TIFF file: {error}") from error


def _image_in(path: Path, tiff: TiffFile, selection: Selection) -> TiffImage:
    _require_files_in_folder(path, tiff)
    described_by = [name for kind, name in _DESCRIPTIONS.items() if getattr(tiff, f"is_{kind}")]
    series = tiff.series
    if _are_plain(series):
        is_unused = described_by and all(one.kind in _PLAIN_KINDS for one in series)
        problem = f"its {described_by[0]} description is damaged or in another file" if is_unused else ""
    else:
        problem = _mismatch(tiff, series, is_named=selection.axes is not None)
    if problem and selection.axes is None:
        raise InputError(
            f"{path}: {problem}, so its pages may be sections, channels or time points",
            hint="if the pages are sections, add --axes zyx; otherwise save the file again, for example with Fiji: "
            "File > Save As > Tiff",
        )
    if problem or _are_plain(series):
        return _plain_pages(path, selection)
    number = _chosen(path, [f"{described(*_without_ones(one))} {one.dtype}" for one in series], selection)
    return _described_image(path, series[number], stated_size(tiff, number, len(series)))


def _are_plain(series: Sequence[TiffPageSeries]) -> bool:
    """Return whether the file describes no image of several pages. tifffile's writer may describe each page."""
    page_by_page = len(series) > 1 and all(
        one.kind == "shaped" and _without_ones(one) == _kept(one.keyframe.axes, one.keyframe.shape) for one in series
    )
    return page_by_page or all(one.kind in _PLAIN_KINDS for one in series)


def _mismatch(tiff: TiffFile, series: Sequence[TiffPageSeries], *, is_named: bool) -> str:
    """Return the difference between the description of all pages and the stored pages, or an empty text.

    Pages that OME lists but that are missing are an error later (`_pages_of`), unless the user names the axes.
    """
    if series[0].kind not in _DESCRIBES_ALL_PAGES or any(one.is_multifile for one in series):
        return ""
    kind, stored = series[0].kind, len(tiff.pages)
    described_pages = sum(one.size // one.keyframe.size for one in series)
    is_bare = stored == 1 and len(series) == 1 and series[0].dataoffset is not None
    if stored == described_pages or is_bare or (kind == "ome" and stored < described_pages and not is_named):
        return ""
    return f"it has {stored} pages, but its {_DESCRIPTIONS[kind]} description lists {described_pages}"


def _plain_pages(path: Path, selection: Selection) -> TiffImage:
    """Return the pages as sections, without reduced copies and masks of other pages."""
    # Open the file again: access to `series` has shortened the headers of its pages.
    with TiffFile(path) as tiff:
        pages = [page for page in tiff.pages if not page.is_reduced and not page.is_mask]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for page in pages:
            groups.setdefault((page.axes, page.shape, page.dtype), []).append(page.index)
    if not groups:
        raise InputError(f"{path} contains no image")
    number, chosen = 0, sorted(index for indices in groups.values() for index in indices)
    if selection.series is not None:
        sizes = [
            f"unnamed {len(group)}, {described(axes, shape)} {dtype}" for (axes, shape, dtype), group in groups.items()
        ]
        number = _chosen(path, sizes, selection)
        chosen = list(groups.values())[number]
    axes, shape, _ = list(groups)[number]
    return TiffImage(f"I{axes}", (len(chosen), *shape), len(shape), tuple(PageAt(path, i) for i in chosen))


def _chosen(path: Path, images: Sequence[str], selection: Selection) -> int:
    """Return the number of the image that the user chose, or 0 if there is only one."""
    listed = "; ".join(f"{number}: {image}" for number, image in enumerate(images[:_LISTED_AT_MOST]))
    listed += "; ..." if len(images) > _LISTED_AT_MOST else ""
    if selection.series is None and len(images) > 1:
        raise InputError(
            f"{path} contains {len(images)} images ({listed}), expected one", hint="choose one with --series N"
        )
    number = selection.series or 0
    if not 0 <= number < len(images):
        raise InputError(f"--series {number} is not in {path}, expected 0 to {len(images) - 1} ({listed})")
    return number


def _described_image(path: Path, series: TiffPageSeries, size_nm: PartialSize) -> TiffImage:
    axes, shape = _without_ones(series)
    _, within = _kept(series.keyframe.axes, series.keyframe.shape)
    lead = shape[: len(shape) - len(within)]
    if shape[len(lead) :] != within or series.transform is not None:
        raise InputError(
            f"{path} arranges its pages in an unsupported way ({series.kind}: {described(axes, shape)}, pages of "
            f"{within})",
            hint="save it again, for example with Fiji: File > Save As > Tiff",
        )
    if axes in ("YX", "XY"):
        axes, shape, lead = f"I{axes}", (1, *shape), (1,)
    return TiffImage(axes, shape, len(within), _pages_of(path, series, math.prod(lead)), size_nm)


def _pages_of(path: Path, series: TiffPageSeries, count: int) -> tuple[PageAt, ...]:
    """Return the positions of all pages of a series. Raises InputError if some are missing."""
    if len(series) == 1 and count > 1 and series.dataoffset is not None:
        # Above 4 GB ImageJ writes one page, and then the sections without headers.
        end, size = series.dataoffset + series.nbytes, series.keyframe.parent.filehandle.size
        if end > size:
            raise InputError(f"{path} is cut off: the file has {size} bytes, expected {end}", hint="copy it again")
        return tuple(PageAt(path, series.keyframe.index, bare) for bare in range(count))
    pages = list(series)
    stored = [page for page in pages if page is not None]
    if len(stored) < count or len(pages) != count:
        raise InputError(
            f"{path} lacks {count - len(stored)} of the {count} pages that its description lists",
            hint="copy the other files of the image into the same folder; or, if all pages of this file are sections, "
            "add --axes zyx",
        )
    return tuple(PageAt(Path(page.parent.filehandle.path), page.index) for page in stored)


def _without_ones(series: TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    return _kept(series.get_axes(False), series.get_shape(False))


def _kept(axes: str, shape: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Return axes and shape without axes of size one, except y and x."""
    kept = [(axis, size) for axis, size in zip(axes, shape, strict=True) if size != 1 or axis in "YX"]
    return "".join(axis for axis, _ in kept), tuple(size for _, size in kept)


def _require_files_in_folder(path: Path, tiff: TiffFile) -> None:
    """Raise InputError if an OME description names a file that is not a plain file in the same folder."""
    if not tiff.is_ome:
        return
    try:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    except ElementTree.ParseError as error:
        raise InputError(
            f"{path} has an OME description that is not valid XML: {error}",
            hint="save it again, for example with Fiji: File > Save As > Tiff",
        ) from error
    for name in {element.get("FileName") for element in root.iter() if element.get("FileName")}:
        companion = path.parent / str(name)
        inside = {PurePosixPath(str(name)).name, PureWindowsPath(str(name)).name} == {name}
        if not inside or (companion.exists() and not companion.is_file()):
            raise InputError(f"{path} names {name!r} as a part of its image, expected a file in the same folder")
