"""HDF5 filters: read with hdf5plugin, refused by name without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from neuroseg.errors import InputError
from neuroseg.volumes.addresses import open_any

FILTERS = {
    "LZ4": hdf5plugin.LZ4(), "Zstandard": hdf5plugin.Zstd(), "bitshuffle": hdf5plugin.Bitshuffle(),
    "Blosc": hdf5plugin.Blosc(), "Blosc2": hdf5plugin.Blosc2(), "bzip2": hdf5plugin.BZip2(),
}  # fmt: skip
# Runs in a process of its own: a filter that this one has registered stays available.
READER = """
import sys
if sys.argv[2] == "without":
    sys.modules["hdf5plugin"] = None
import json
from neuroseg.errors import InputError
from neuroseg.volumes.addresses import open_any
results = {}
for name in sys.argv[3:]:
    try:
        volume = open_any(f"{sys.argv[1]}:{name}")
        results[name] = volume.read(volume.roi).tolist()
        volume.array.file.close()
    except InputError as error:
        results[name] = str(error)
print(json.dumps(results))
"""


def in_another_process(file: Path, world: str, names: list[str]) -> dict[str, object]:
    """Return the values of each dataset, or the error."""
    done = subprocess.run(
        [sys.executable, "-c", READER, str(file), world, *names], capture_output=True, text=True, check=True
    )
    results: dict[str, object] = json.loads(done.stdout)
    return results


def test_filters_are_read_with_hdf5plugin_and_named_without(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (4, 8, 8), np.uint16)
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        for name, options in FILTERS.items():
            file.create_dataset(name, data=values, chunks=(2, 8, 8), **options)
        file.create_dataset("gzip", data=values, compression="gzip", shuffle=True)
    names = [*FILTERS, "gzip"]
    assert in_another_process(path, "with", names) == dict.fromkeys(names, values.tolist())
    found = in_another_process(path, "without", names)
    assert found.pop("gzip") == values.tolist()
    for name, error in found.items():
        assert f"f.h5:{name} is compressed with {name}, which needs the package hdf5plugin" in str(error)
        assert "pip install 'neuroseg[codecs]'" in str(error)


def test_a_filter_that_nothing_decodes_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((2, 8, 8))
        properties.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((4, 8, 8)), properties)
    with pytest.raises(InputError, match=r"filter 32099 .* which hdf5plugin does not decode\nhint: save .* gzip"):
        open_any(f"{path}:raw")
