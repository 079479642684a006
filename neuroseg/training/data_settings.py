"""The section `data` of a training configuration: the volumes, and how they are found and sampled."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, model_validator

from neuroseg.configuration import Section
from neuroseg.training.data.catalogue import catalogued

Margins = tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class VolumeSettings(Section):
    """One labelled volume, and the part of it to use."""

    volume: str | None = Field(
        default=None,
        description="Name of a public volume in configs/data. It provides raw, labels and voxel_size_nm if not given.",
    )
    raw: str = Field(description="Address of the raw: a zarr array or file.h5:dataset.")
    labels: str = Field(description="Address of the labels: a zarr array or file.h5:dataset.")
    region: str | None = Field(
        default=None, description="Part to use, z0:z1,y0:y1,x0:x1 in voxels of raw. Default: the extent of the labels."
    )
    surround_voxels: Margins = Field(
        default=(0, 0, 0),
        description="Raw around the region, in voxels (z, y, x) on each side, that patches may also show. Labels there "
        "are not used. Set this if patches are deeper than the labelled sections; otherwise sections are mirrored.",
    )
    share: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="Share of the training samples taken from this volume. Volumes without a share divide the rest in "
        "proportion to their labelled voxels.",
    )
    voxel_size_nm: tuple[Positive, Positive, Positive] | None = Field(
        default=None, description="Voxel size (z, y, x). Required if the file contains none."
    )

    @model_validator(mode="before")
    @classmethod
    def _catalogued(cls, content: Any) -> Any:
        return _with_catalogued(content, ("raw", "labels", "voxel_size_nm"))

    @model_validator(mode="after")
    def _labels_differ_from_raw(self) -> VolumeSettings:
        if posixpath.normpath(self.raw) == posixpath.normpath(self.labels):
            raise ValueError(f"raw and labels have the same address {self.labels}; give the address of the labels")
        return self


class UnlabelledSettings(Section):
    """One volume without labels, and the part of it to use. Crops are read one at a time, so any size is possible."""

    volume: str | None = Field(
        default=None, description="Name of a public volume in configs/data. It provides raw if not given."
    )
    raw: str = Field(description="Address of the raw: a zarr array or file.h5:dataset.")
    region: str | None = Field(
        default=None, description="Part to use, z0:z1,y0:y1,x0:x1 in voxels. Default: the whole volume."
    )
    level: int = Field(default=0, ge=0, description="Pyramid level to read. 0 is the finest.")

    @model_validator(mode="before")
    @classmethod
    def _catalogued(cls, content: Any) -> Any:
        return _with_catalogued(content, ("raw",))


def _with_catalogued(content: Any, keys: Sequence[str]) -> Any:
    """Return the mapping of a volume, with missing keys taken from the public volume that `volume` names."""
    if not isinstance(content, Mapping) or not content.get("volume"):
        return content
    known = catalogued(str(content["volume"])).model_dump()
    return {**{key: known[key] for key in keys if known[key] is not None}, **content}


class DataSettings(Section):
    """The volumes of a training."""

    folders: tuple[str, ...] = Field(
        default=(".",),
        description="Folders to search for relative addresses, in order. Relative folders start at the folder of the "
        "YAML file.",
    )
    training: tuple[VolumeSettings, ...] = Field(default=(), description="Labelled volumes to train on.")
    unlabelled: tuple[UnlabelledSettings, ...] = Field(
        default=(), description="Volumes without labels. Requires the section consistency."
    )
    validation: VolumeSettings | None = Field(
        default=None, description="Labelled volume that selects the best step, scoring and threshold."
    )
    test: tuple[VolumeSettings, ...] = Field(
        default=(), description="Labelled volumes for neuroseg validate. Training does not use them."
    )

    @model_validator(mode="after")
    def _shares_add_up(self) -> DataSettings:
        judged = [*self.test, *([self.validation] if self.validation else [])]
        if any(volume.share is not None for volume in judged):
            raise ValueError("share applies to training volumes only; remove it from validation and test")
        given = [volume.share for volume in self.training if volume.share is not None]
        total, rest = sum(given), len(self.training) - len(given)
        if given and rest and total >= 1:
            raise ValueError(
                f"the shares of the training volumes add up to {total:g}; less than 1 is expected, because {rest} have "
                "no share"
            )
        if given and not rest and not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(
                f"the shares of the training volumes add up to {total:g}, not to 1; remove the share of one volume"
            )
        return self
