"""Public volumes by name: what they are called on disk and where to get them, from configs/data/*.yaml."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path

from neuroseg.configuration import Section, load_configuration
from neuroseg.errors import InputError, unknown_name
from neuroseg.volumes.addresses import find_file


class CataloguedVolume(Section):
    """One public volume: `raw` and `labels` as they are named on disk, and where they come from.

    `origin_voxels` (z, y, x) is where a box begins in the volume that it was cut from.
    """

    title: str
    raw: str
    labels: str | None = None
    shape: tuple[int, int, int] | None = None
    voxel_size_nm: tuple[float, float, float]
    origin_voxels: tuple[int, int, int] | None = None
    source: str
    licence: str
    prepare: tuple[str, ...] = ()


def catalogue() -> dict[str, CataloguedVolume]:
    """Return the public volumes by name."""
    folder = Path(str(resources.files("neuroseg.configs"))) / "data"
    return {path.stem: load_configuration(path, CataloguedVolume) for path in sorted(folder.glob("*.yaml"))}


def catalogued(name: str) -> CataloguedVolume:
    """Return a public volume; raises InputError naming the close ones."""
    volumes = catalogue()
    if name not in volumes:
        raise unknown_name("public volume", name, volumes)
    return volumes[name]


def found(address: str, folders: tuple[str, ...], volume: str | None) -> str:
    """Return an address with its file looked up in `folders`, that of a public volume also as a zarr imported from it.

    Raises InputError saying where a public one is had, and how it is imported.
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
        raise InputError(f"{error}\n  {known.title}: get it from {known.source}{steps}") from error


def _with_hint(error: InputError, address: str) -> InputError:
    """Return the error, with where the file is if it lies in the current folder and the configuration elsewhere."""
    if not Path(address.split(":")[0]).exists():
        return error
    return InputError(
        f"{error}; it is in the current folder, but relative paths are seen from the folder of the YAML file: "
        "correct the path there, or data.folders"
    )


def _imported(address: str, known: CataloguedVolume) -> str:
    """Return what a file is called once it was imported, the address itself where two volumes share the file."""
    files = [each.split(":")[0] for each in (known.raw, known.labels) if each is not None]
    file = address.split(":")[0]
    return str(Path(file).with_suffix(".zarr")) if files.count(file) == 1 else address
