"""The options of predict, segment and run, from the command line and from --config."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, field_validator

from neuroseg.affinities.turned_windows import parse_augmentation
from neuroseg.agglomeration.names import AGGLOMERATIONS
from neuroseg.agglomeration.partition import SMALL
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.configuration import Section, read_yaml, validated
from neuroseg.errors import InputError, unknown_name
from neuroseg.fragments.settings import FRAGMENTS
from neuroseg.geometry import Nanometres, parse_triple
from neuroseg.storage.cleaning import KEEP
from neuroseg.storage.remote import is_remote
from neuroseg.volumes.selection import Selection

BLENDS = ("centre", "gaussian")
CLUSTERS = ("slurm", "dask")
EXECUTORS = ("local", "serial", *CLUSTERS)
NORMALISE = ("none", "sections")
NO_MASK = "none"
SWITCH = ("on", "off")
_MOST_WORKERS, _MOST_LEVELS, _MOST_VOXELS = 100_000, 100, 10**18
LEAST_MEMORY_BYTES = 2**29
_LONGEST_TIMEOUT_S = 366 * 86400.0


class Options(Section):
    """All keys of a configuration file. None means the value of the workspace, or the default."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    volume: str | None = None
    input: str | None = None
    output: str | None = None
    affinities: str | None = None
    boundaries: str | None = None
    offsets: str | None = None
    voxel_size: tuple[float, float, float] | None = None
    range: tuple[float, float] | None = None
    invert: bool = False
    level: int | None = None
    axes: str | None = None
    channel: int | None = None
    time: int | None = None
    normalise: str | None = None
    roi: str | None = None
    blocks: str | None = None
    model: str | None = None
    blend: str | None = None
    tta: str | None = None
    device: str | None = None
    force: bool = False
    mask: str | None = None
    mask_boundary: float | None = None
    fragments: str | None = None
    per_section: str | None = None
    long_range: str | None = None
    scoring: str | None = None
    agglomeration: str | None = None
    threshold: float | None = None
    min_size: str | None = None
    small: str | None = None
    workers: int | None = None
    executor: str | None = None
    block_timeout: float | None = None
    memory: str | None = None
    keep: str | None = None

    @field_validator("blocks", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        """Accept [64, 256, 256] like 64,256,256, and numpy arrays."""
        value = value.tolist() if hasattr(value, "tolist") else value
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

    @field_validator("per_section", "long_range", mode="before")
    @classmethod
    def _switched(cls, value: object) -> object:
        """Accept true and false, because YAML reads on and off as these."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("offsets", mode="before")
    @classmethod
    def _rows_joined(cls, value: object) -> object:
        """Accept [[-1, 0, 0], ...] like -1,0,0;..."""
        return ";".join(",".join(map(str, row)) for row in value) if isinstance(value, list | tuple) else value

    def paths(self) -> dict[str, str]:
        """Return the options that are paths or addresses. Names of models and the mask `none` are not paths."""
        names = ("volume", "input", "output", "affinities", "boundaries", "mask")
        found = {name: getattr(self, name) for name in names if getattr(self, name)}
        model = Path(self.model or "")
        if self.model and (model.is_absolute() or model.is_file() or (model / "card.yaml").is_file()):
            found["model"] = self.model
        return {name: path for name, path in found.items() if not (name == "mask" and path == NO_MASK)}

    @property
    def selection(self) -> Selection:
        """The part to read of an input that contains more than one volume."""
        return Selection(self.axes, self.channel, self.time)

    def with_absolute_paths(self) -> Options:
        """Return the options with absolute paths, so that they are valid in any folder."""
        absolute = {
            name: path.rstrip("/") if is_remote(path) else str(Path(path).resolve())
            for name, path in self.paths().items()
        }
        return self.model_copy(update=absolute)


def options_from(config: Path | None = None, **given: object) -> Options:
    """Return the options of a configuration file. Values in `given` override them unless they are None or False.

    The file contains options at its top level, or under `options` as in a workspace's run.yaml. Raises InputError for
    unknown names and invalid values.
    """
    content: dict[str, Any] = {}
    if config is not None:
        content = read_yaml(config)
        if isinstance(content.get("options"), dict):
            # A workspace's run.yaml: use its options, but not its paths.
            content = {
                key: value for key, value in content["options"].items() if key not in ("volume", "input", "output")
            }
    flags = {name: value for name, value in given.items() if value is not None and value is not False}
    options = validated({**content, **flags}, Options, str(config) if config else "options")
    _check(options)
    return options


def _check(options: Options) -> None:
    """Raise InputError for the first invalid value."""
    if options.blocks is not None:
        parse_triple(options.blocks, "--blocks")
    if options.scoring is not None:
        parse_scoring(options.scoring)
    if options.tta is not None:
        parse_augmentation(options.tta)
    if options.min_size is not None:
        min_size_voxels(options.min_size, (1.0, 1.0, 1.0))
    for value, kind, valid in (
        (options.executor, "executor", EXECUTORS),
        (options.blend, "blend", BLENDS),
        (options.normalise, "--normalise", NORMALISE),
        (options.fragments, "fragments method", FRAGMENTS),
        (options.keep, "thing to keep", KEEP),
        (options.small, "treatment of small segments", SMALL),
        (options.per_section, "--per-section", ("auto", *SWITCH)),
        (options.long_range, "--long-range", SWITCH),
        (options.agglomeration, "agglomeration", AGGLOMERATIONS),
    ):
        if value is not None and value not in valid:
            raise unknown_name(kind, value, valid)
    if options.workers is not None and not 1 <= options.workers <= _MOST_WORKERS:
        raise InputError(f"--workers {options.workers} is not between 1 and {_MOST_WORKERS}")
    if options.level is not None and not 0 <= options.level <= _MOST_LEVELS:
        raise InputError(f"--level {options.level} is not between 0 (full resolution) and {_MOST_LEVELS}")
    if options.block_timeout is not None and not 0 < options.block_timeout <= _LONGEST_TIMEOUT_S:
        raise InputError(
            f"--block-timeout {options.block_timeout:g} is not between 0 (exclusive) and "
            f"{_LONGEST_TIMEOUT_S:g} seconds (a year)"
        )
    if options.memory is not None:
        memory_bytes(options.memory)
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise InputError(f"--threshold {options.threshold} is not between 0 and 1")
    if options.mask_boundary is not None and not 0 <= options.mask_boundary <= 1:
        raise InputError(f"--mask-boundary {options.mask_boundary} is not between 0 and 1")
    if options.range is not None and not 0 < abs(options.range[1] - options.range[0]) < float("inf"):
        raise InputError(f"--range {options.range[0]:g} {options.range[1]:g} is not two different finite numbers")


def memory_bytes(text: str) -> int:
    """Return a size such as `16G` or `900M` in bytes (1 G = 1024 M). Raises InputError for other texts."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT])i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InputError(f"--memory {text!r} is not a number with the unit M, G or T, for example 16G")
    found = int(float(match[1]) * 2 ** {"M": 20, "G": 30, "T": 40}[match[2].upper()])
    if found < LEAST_MEMORY_BYTES:
        raise InputError(f"--memory {text!r} is less than {LEAST_MEMORY_BYTES >> 20}M, which one worker needs")
    return found


def min_size_voxels(text: str, voxel_size_nm: Nanometres) -> int:
    """Return a size such as `500` (voxels) or `0.01um3` in voxels. Raises InputError for other texts."""
    match = re.fullmatch(r"(\d+)|(\d*\.?\d+)\s*um(?:3|\^3)", text.strip())
    if match is None:
        raise InputError(f"--min-size {text!r} is neither a number of voxels (500) nor a volume (0.01um3)")
    voxel_um3 = voxel_size_nm[0] * voxel_size_nm[1] * voxel_size_nm[2] * 1e-9
    voxels = float(match[1]) if match[1] else float(match[2]) / voxel_um3
    if not voxels <= _MOST_VOXELS:
        raise InputError(f"--min-size {text!r} is more than {_MOST_VOXELS:.0e} voxels, the largest allowed size")
    return int(match[1]) if match[1] else round(voxels)
