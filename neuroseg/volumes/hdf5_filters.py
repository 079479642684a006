"""Compression filters of HDF5 datasets. hdf5plugin provides filters that h5py lacks. Any other is an error."""

from __future__ import annotations

import h5py

from neuroseg.errors import InputError

# Registered filter numbers, as stored in files: https://github.com/HDFGroup/hdf5_plugins
_NAMES = {
    4: "szip", 307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32013: "ZFP",
    32015: "Zstandard", 32017: "SZ", 32026: "Blosc2",
}  # fmt: skip


def require_filters(dataset: h5py.Dataset, address: str) -> None:
    """Make the filters of a dataset available. Raises InputError that names the filters that are not installed."""
    missing = _missing(dataset)
    if not missing:
        return
    try:
        import hdf5plugin  # noqa: F401 (the import registers the filters)
    except ImportError as error:
        raise InputError(
            f"{address} is compressed with {', '.join(missing)}, which needs the package hdf5plugin",
            hint="install it: pip install 'neuroseg[codecs]'",
        ) from error
    unknown = _missing(dataset)
    if unknown:
        raise InputError(
            f"{address} is compressed with {', '.join(unknown)}, which hdf5plugin does not decode",
            hint="save the dataset with gzip, in a program that can read it: h5repack -f GZIP=1 OLD.h5 NEW.h5",
        )


def _missing(dataset: h5py.Dataset) -> list[str]:
    """Return the names of a dataset's filters that are not available."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(index) for index in range(properties.get_nfilters())]
    return [
        _NAMES.get(code) or f"filter {code} ({name.decode(errors='replace')})"
        for code, _, _, name in filters
        if not h5py.h5z.filter_avail(code)
    ]
