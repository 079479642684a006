"""Public volumes by name: their file names and download sources, from configs/data/*.yaml."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path

from pydantic import Field

from neuroseg.configuration import Section, load_configuration
from neuroseg.errors import InputError, unknown_name
from neuroseg.volumes.addresses import find_file


class CataloguedVolume(Section):
    """One public volume."""

    title: str = Field(description="Title, for people.")
    raw: str = Field(description="Address of the raw.")
    labels: str | None = Field(default=None, description="Address of the labels, if there are any.")
    shape: tuple[int, int, int] | None = Field(default=None, description="Shape (z, y, x) in voxels.")
    voxel_size_nm: tuple[float, float, float] = Field(description="Voxel size (z, y, x).")
    origin_voxels: tuple[int, int, int] | None = Field(
        default=None, description="Origin (z, y, x) in the larger volume that this one was cut from."
    )
    source: str = Field(description="Where to download the files.")
    licence: str = Field(description="Licence of the data.")
    prepare: tuple[str, ...] = Field(default=(), description="Steps to prepare the files, such as import commands.")


def catalogue() -> dict[str, CataloguedVolume]:
    """Return the public volumes by name."""
    folder = Path(str(resources.files("neuroseg.configs"))) / "data"
    return {path.stem: load_configuration(path, CataloguedVolume) for path in sorted(folder.glob("*.yaml"))}


def catalogued(name: str) -> CataloguedVolume:
    """Return a public volume. Raises InputError for an unknown name, with similar names."""
    volumes = catalogue()
    if name not in volumes:
        raise unknown_name("public volume", name, volumes)
    return volumes[name]


def found(address: str, folders: tuple[str, ...], volume: str | None) -> str:
    """Return an address with the path of its file, searched in `folders`.

    For a public volume, a zarr imported from the file is accepted. Raises InputError if the file is not found. For a
    public volume, the hint gives the source and the steps to prepare it.
    """
    try:
        return find_file(address, folders)
    except InputError as error:
        if volume is None:
            raise _with_hint(error, address) from error
        known = catalogued(volume)
        with contextlib.suppress(InputError):
            return find_file(_imported(address, known), folders)
        steps = "".join(f"\n    {step}" for step in known.prepare)
        raise InputError(error.args[0], hint=f"{known.title}: download it from {known.source}{steps}") from error


def _with_hint(error: InputError, address: str) -> InputError:
    """Return the error. If the file is in the current folder, add a hint that the path starts elsewhere."""
    if not Path(address.split(":")[0]).exists():
        return error
    return InputError(
        f"{error.args[0]}; it is in the current folder, but relative paths start at the folder of the YAML file",
        hint="correct the path in the YAML file, or data.folders",
    )


def _imported(address: str, known: CataloguedVolume) -> str:
    """Return the address of a file after its import. If raw and labels share the file, return the address itself."""
    files = [each.split(":")[0] for each in (known.raw, known.labels) if each is not None]
    file = address.split(":")[0]
    return str(Path(file).with_suffix(".zarr")) if files.count(file) == 1 else address
