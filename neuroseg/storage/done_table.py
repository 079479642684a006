"""The done blocks of a stage as columns, about 60 bytes a block: a stage may have millions of them.

a done mark -> a row in a dictionary of recent rows -> now and then, all recent rows -> the columns, sorted by block
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]

# So many rows are recent at most. A row takes 400 bytes as Python objects.
_MOST_RECENT = 2**16
_DTYPES: Mapping[str, type[np.generic]] = {
    "block": np.int64,
    "token": np.uint64,
    "offset": np.int64,  # of the line of the done mark, in bytes
    "time": np.float64,  # when it was done, in seconds since 1970
    "seconds": np.float64,
    "about": np.int32,  # index of an `About`
    "released": np.bool_,
}
_NO_COUNT = -1


class Done(NamedTuple):
    """A done block: the hash of its identity and region, and where its line begins."""

    token: str
    offset: int


class About(NamedTuple):
    """Values that many blocks share. `files`: number of a block's files in each artifact. None or 0: not recorded."""

    host: str | None = None
    process: int | None = None
    job: str | None = None
    device: str | None = None
    voxels: int = 0
    peak_mib: int = 0
    files: tuple[int, ...] = ()


@dataclass(frozen=True)
class DoneRecords:
    """How done blocks were computed, by ascending block, `(n,)` each. `about[n]` is the index in `common`."""

    blocks: Numbers
    times: NDArray[np.float64]
    seconds: NDArray[np.float64]
    about: NDArray[np.int32]
    common: Sequence[About]

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def voxels(self) -> Numbers:
        """The number of voxels of each block."""
        return np.array([each.voxels for each in self.common], np.int64)[self.about]

    @property
    def peak_mib(self) -> Numbers:
        """The peak memory of the process that computed each block."""
        return np.array([each.peak_mib for each in self.common], np.int64)[self.about]

    def where(self, chosen: NDArray[np.bool_]) -> DoneRecords:
        """Return the records for which an array of one value a record is True."""
        return DoneRecords(
            self.blocks[chosen], self.times[chosen], self.seconds[chosen], self.about[chosen], self.common
        )


class DoneTable(Mapping[int, Done]):
    """The done blocks by index. Changes by done marks and by marks that remove or release blocks.

    Several threads may read it. Arrays that it returns do not change.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._recent: dict[int, tuple[Any, ...] | None] = {}
        self._common: dict[About, int] = {}
        self._columns: Columns = {name: np.zeros(0, dtype) for name, dtype in _DTYPES.items()}
        self._columns["sizes"] = np.zeros((0, 0), np.uint32)  # int64 as soon as a size needs it

    def add(self, block: int, token: str, counts: Sequence[str], offset: int, record: Mapping[str, Any]) -> None:
        """Add or replace a block. `counts` has `files.bytes` of each artifact, `record` describes the attempt."""
        pairs = [each.split(".") for each in counts]
        about = About(
            record.get("host"), record.get("process"), record.get("job"), record.get("device"),
            record.get("voxels", 0), record.get("peak_mib", 0), tuple([int(files) for files, _ in pairs]),
        )  # fmt: skip
        with self._lock:
            self._recent[block] = (
                int(token, 16), offset, record.get("time", 0.0), record.get("seconds", 0.0),
                self._common.setdefault(about, len(self._common)), False, [int(size) for _, size in pairs],
            )  # fmt: skip
            if len(self._recent) > _MOST_RECENT:
                self._merge()

    def remove(self, blocks: Iterable[int]) -> None:
        """Remove blocks. Those that are not done are ignored."""
        with self._lock:
            self._recent.update(dict.fromkeys(blocks))
            if len(self._recent) > _MOST_RECENT:
                self._merge()

    def release(self, blocks: Iterable[int]) -> None:
        """Mark blocks released. Those that are not done are ignored."""
        with self._lock:
            for block in blocks:
                if block in self._recent:
                    row = self._recent[block]
                    self._recent[block] = None if row is None else (*row[:5], True, *row[6:])
                elif (place := _place(self._columns["block"], block)) is not None:
                    self._columns["released"][place] = True

    def release_all(self) -> None:
        """Mark all blocks released."""
        with self._lock:
            columns = self._merged()
            self._columns = {**columns, "released": np.ones(len(columns["block"]), bool)}

    def __getitem__(self, block: int) -> Done:
        with self._lock:
            if block in self._recent:
                if (row := self._recent[block]) is not None:
                    return Done(f"{row[0]:x}", row[1])
            elif (place := _place(self._columns["block"], block)) is not None:
                return Done(f"{self._columns['token'][place]:x}", int(self._columns["offset"][place]))
        raise KeyError(block)

    def __iter__(self) -> Iterator[int]:
        return iter(self.blocks.tolist())

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def blocks(self) -> Numbers:
        """The done blocks, ascending."""
        blocks: Numbers = self._merged()["block"]
        return blocks

    @property
    def released(self) -> Numbers:
        """The released blocks, ascending."""
        columns = self._merged()
        return columns["block"][columns["released"]]

    def contain(self, blocks: Numbers) -> NDArray[np.bool_]:
        """Return whether each block is done."""
        return _places(self.blocks, blocks)[1]

    def are_done(self, blocks: Numbers, tokens: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return whether each block is done with the token that it must have."""
        columns = self._merged()
        places, are_done = _places(columns["block"], blocks)
        return are_done & (columns["token"][places] == tokens) if len(columns["block"]) else are_done

    def lines(self, blocks: Numbers) -> Numbers:
        """Return where the lines of done blocks begin."""
        columns = self._merged()
        offsets: Numbers = columns["offset"][_places(columns["block"], blocks)[0]]
        return offsets

    def are_released(self, blocks: Numbers) -> NDArray[np.bool_]:
        """Return whether each block is done and released."""
        columns = self._merged()
        if not columns["released"].any():
            return np.zeros(len(blocks), bool)
        places, are_done = _places(columns["block"], blocks)
        released: NDArray[np.bool_] = columns["released"][places] & are_done
        return released

    def counts(self, blocks: Numbers) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Return number and bytes of the files of done blocks in each artifact, `(blocks, artifacts)`; -1: no count.

        The types of the numbers are small, because there may be millions of blocks.
        """
        columns = self._merged()
        width = columns["sizes"].shape[1]
        padded = [(*each.files, *[_NO_COUNT] * width)[:width] for each in list(self._common)]
        files = np.array(padded, np.int32).reshape(len(padded), width)
        files = files.astype(np.promote_types(np.int8, np.min_scalar_type(files.max(initial=0))))
        if np.array_equal(columns["block"], blocks):
            return files[columns["about"]], columns["sizes"]
        places = _places(columns["block"], blocks)[0]
        return files[columns["about"][places]], columns["sizes"][places]

    def records(self) -> DoneRecords:
        """Return how the blocks were computed."""
        columns = self._merged()
        return DoneRecords(columns["block"], columns["time"], columns["seconds"], columns["about"], list(self._common))

    def arrays(self) -> Columns:
        """Return all content as arrays. `from_arrays` reverses this."""
        common = np.frombuffer(json.dumps(list(self._common)).encode(), np.uint8)
        return {**self._merged(), "common": common}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> DoneTable:
        """Return the table with the content `arrays`. Raises KeyError or ValueError if it is incomplete."""
        table = cls()
        table._columns = {name: arrays[name] for name in (*_DTYPES, "sizes")}
        for host, process, job, device, voxels, peak_mib, files in json.loads(arrays["common"].tobytes()):
            about = About(host, process, job, device, voxels, peak_mib, tuple(files))
            table._common.setdefault(about, len(table._common))
        return table

    def _merged(self) -> Columns:
        """Return the columns with all rows."""
        with self._lock:
            if self._recent:
                self._merge()
            return self._columns

    def _merge(self) -> None:
        """Put the recent rows into the columns."""
        rows = [(block, *row) for block, row in self._recent.items() if row is not None]
        changed = np.sort(np.fromiter(self._recent, np.int64, len(self._recent)))
        kept = ~_places(changed, self._columns["block"])[1]
        *new, counts = list(zip(*rows, strict=True)) or [()] * (len(_DTYPES) + 1)
        added = {name: np.array(values, dtype) for values, (name, dtype) in zip(new, _DTYPES.items(), strict=True)}
        width = max([self._columns["sizes"].shape[1], *map(len, counts)])
        padded = [[*each, *[0] * (width - len(each))] for each in counts]
        sizes = np.array(padded, np.int64).reshape(len(padded), width)
        added["sizes"] = sizes.astype(np.uint32) if sizes.max(initial=0) < 2**32 else sizes
        before = self._columns["sizes"]
        self._columns["sizes"] = np.pad(before, [(0, 0), (0, width - before.shape[1])])
        order = np.argsort(np.concatenate([self._columns["block"][kept], added["block"]]), kind="stable")
        self._columns = {
            name: np.concatenate([column[kept], added[name]])[order] for name, column in self._columns.items()
        }
        self._recent = {}


def _place(known: Numbers, block: int) -> int | None:
    """Return the place of a block in `known` blocks, ascending, or None."""
    place = int(np.searchsorted(known, block))
    return place if place < len(known) and known[place] == block else None


def _places(known: Numbers, blocks: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    """Return the place of each block in `known` blocks, ascending, and whether it is there. If not, the place is 0."""
    if not len(known):
        return np.zeros(len(blocks), np.int64), np.zeros(len(blocks), bool)
    if np.array_equal(known, blocks):  # often all are asked for
        return np.arange(len(known)), np.ones(len(known), bool)
    places = np.searchsorted(known, blocks)
    places[places == len(known)] = 0
    is_there = known[places] == blocks
    places[~is_there] = 0
    return places, is_there
