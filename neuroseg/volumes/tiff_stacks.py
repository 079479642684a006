"""Sections of TIFF files in stack order: the pages of one file, or one section of each of many files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Triple
from neuroseg.volumes.selection import Selection
from neuroseg.volumes.tiff_axes import Arrangement, arranged, described
from neuroseg.volumes.tiff_pages import Header, TiffPages, common_header
from neuroseg.volumes.tiff_series import PageAt, TiffImage, image_in
from neuroseg.volumes.tiff_voxel_size import PartialSize, agreed

_MOST_VOXELS_OF_A_DEEP_PAGE = 2**30  # all are decoded at the same time: up to 8 GB


@dataclass(frozen=True)
class _Section:
    """The position of a section: a page, and the index within the page that selects y and x."""

    at: PageAt
    within: tuple[int | slice, ...]
    transposed: bool
    name: str


class TiffSections:
    """The sections of a stack of TIFF pages, with the voxel size (z, y, x) that the files state."""

    def __init__(
        self, sections: Sequence[_Section], image: TiffImage, where: Arrangement, size_nm: PartialSize
    ) -> None:
        self._sections = sections
        self._pages = TiffPages()
        self._is_one_file = len({section.at.path for section in sections}) == 1
        self.voxel_size_nm = size_nm
        self.shape: Triple = (len(sections), image.shape[where.y], image.shape[where.x])
        try:
            self.dtype = self._checked_header(image).dtype
        except BaseException:
            self.close()
            raise
        self._close_one_of_many()

    def read(self, z: int) -> NDArray[Any]:
        """Return section `z` as (y, x)."""
        section = self._sections[z]
        pixels = self._pages.read(section.at)[section.within]
        self._close_one_of_many()
        return pixels.T if section.transposed else pixels

    def close(self) -> None:
        """Close the open file."""
        self._pages.close()

    def _close_one_of_many(self) -> None:
        """Close the file if the stack has several: there may be thousands."""
        if not self._is_one_file:
            self.close()

    def _checked_header(self, image: TiffImage) -> Header:
        """Return the common header of all sections. Reads the header of every page."""
        of_channel = "S" in image.axes[len(image.axes) - image.page_axes :]
        return common_header(
            (section.name, self._pages.header(section.at, f"section {section.name}", of_channel=of_channel))
            for section in self._sections
        )


def sections_of_one(path: Path, selection: Selection) -> TiffSections:
    """Return the sections of one image in one TIFF file."""
    image = image_in(path, selection)
    _require_grey(image, path, selection)
    where = arranged(image.axes, image.shape, selection, str(path))
    _require_pages_in_memory(image, where, path)
    sections = [_section(image, where, z, f"{z} of {path}") for z in range(where.sections)]
    return TiffSections(sections, image, where, _size_along(image, where))


def sections_of_many(paths: Sequence[Path], selection: Selection) -> TiffSections:
    """Return one section of each TIFF file, in the order of `paths`."""
    found = []
    for path in paths:
        image = _along_files(image_in(path, selection))
        _require_grey(image, path, selection)
        where = arranged(image.axes, image.shape, selection, str(path))
        if where.sections != 1:
            parts = len({at.path for at in image.pages})
            raise InputError(
                f"{path} has {where.sections} pages, expected one section per file, or one multi-page TIFF",
                hint=f"import {path} without the others: it describes an image in {parts} files" if parts > 1 else "",
            )
        found.append((image, where, _section(image, where, 0, path.name)))
    size_nm = agreed([_size_along(image, where) for image, where, _ in found])
    return TiffSections([section for _, _, section in found], found[0][0], found[0][1], size_nm)


def _require_pages_in_memory(image: TiffImage, where: Arrangement, path: Path) -> None:
    """Raise InputError if one page contains too many sections to decode at the same time."""
    within = math.prod(image.shape[len(image.shape) - image.page_axes :])
    if where.z is not None and where.z >= len(image.axes) - image.page_axes and within > _MOST_VOXELS_OF_A_DEEP_PAGE:
        raise InputError(
            f"{path} stores all sections in one page ({described(image.axes, image.shape)}), expected at most "
            f"{_MOST_VOXELS_OF_A_DEEP_PAGE} voxels per page",
            hint="save it with one section per page",
        )


def _require_grey(image: TiffImage, path: Path, selection: Selection) -> None:
    """Raise InputError if a page has several samples (mostly colours) and the user chose none."""
    if "S" in image.axes and selection.channel is None and selection.axes is None:
        pages = TiffPages()
        try:
            pages.header(image.pages[0], str(path), of_channel=False)
        finally:
            pages.close()


def _along_files(image: TiffImage) -> TiffImage:
    """Return an image with a first axis for the files. Its size is one in each file."""
    if image.axes.startswith("I") and image.shape[0] == 1:
        return image
    return replace(image, axes=f"I{image.axes}", shape=(1, *image.shape))


def _section(image: TiffImage, where: Arrangement, z: int, name: str) -> _Section:
    lead = len(image.axes) - image.page_axes
    if min(where.y, where.x) < lead:
        raise InputError(
            f"section {name} is spread over several pages: its axes are {image.axes.lower()}, expected y and x last",
            hint="save the stack with one section per page",
        )
    place = where.place(z)
    page = 0
    for index, size in zip(place[:lead], image.shape[:lead], strict=True):
        page = page * size + (index if isinstance(index, int) else 0)
    return _Section(image.pages[page], place[lead:], where.transposed, name)


def _size_along(image: TiffImage, where: Arrangement) -> PartialSize:
    """Return the stated voxel size along z, y and x, as named by the file or by the user's --axes."""
    stated = dict(zip("ZYX", image.voxel_size_nm, strict=True))
    z = "Z" if where.z is None or image.axes[where.z] in "IQ" else image.axes[where.z]
    return (stated.get(z), stated.get(image.axes[where.y]), stated.get(image.axes[where.x]))
