"""What a cluster is like: configs/clusters/*.yaml, given by --cluster.

It says what runs in every job before the worker does, so it is taken from the command line alone, never from a
workspace or another configuration.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import Field, field_validator

from neuroseg.configuration import Section, load_configuration
from neuroseg.errors import InputError, unknown_name

STAGES = ("sections", "affinities", "fragments", "edges", "reduction", "agglomeration", "lookup", "relabel", "pyramid")
# What a command does, under the names of its stages.
_COMMANDS = {
    "predict": "affinities", "prediction": "affinities", "segment": "fragments or edges",
    "segmentation": "fragments or edges", "agglomerate": "agglomeration",
}  # fmt: skip
# Of sbatch; by what they say jobs are found again.
_OUR_FLAGS = {
    "--job-name", "-J", "--array", "-a", "--chdir", "-D", "--output", "-o", "--clusters", "--cluster", "-M",
    "--parsable", "--wait", "-W", "--uid", "--requeue", "--no-requeue",
}  # fmt: skip
VARIABLE = "NEUROSEG_CLUSTER"


class Resources(Section):
    """What a worker's job asks for; what is left out is left to the cluster. `sbatch` are further flags."""

    workers: int | None = Field(default=None, ge=1)
    partition: str | None = None
    cpus: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0)
    memory: str | None = None
    time: str | None = None
    sbatch: tuple[str, ...] = ()

    @field_validator("memory", "time", mode="before")
    @classmethod
    def _as_sbatch_takes_it(cls, value: object) -> object:
        """Refuse numbers: YAML reads 4:00:00 as 14400, and what a number would mean is easily mistaken."""
        if value is not None and not isinstance(value, str):
            raise ValueError('put it in quotes, as sbatch takes it: memory: "16G", time: "4:00:00"')
        return value

    @field_validator("sbatch")
    @classmethod
    def _leaves_our_own(cls, flags: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse flags by which jobs would be lost from sight."""
        for flag in flags:
            if flag.split("=")[0] in _OUR_FLAGS or flag[:2] in _OUR_FLAGS:
                raise ValueError(f"{flag} is set by neuroseg itself: leave it out of sbatch")
        return flags


class Site(Section):
    """A cluster: what its jobs ask for, by default and per stage, and how they find Python and the head.

    activate: shell lines before the worker starts (modules, conda). launch: words before the worker's command (a
    container). host: name or address by which jobs reach the head; port: a fixed one, where a firewall wants it.
    """

    host: str | None = None
    port: int = Field(default=0, ge=0, le=65535)
    activate: str = ""
    launch: tuple[str, ...] = ()
    python: str | None = None
    default: Resources = Resources()
    stages: dict[str, Resources] = Field(default_factory=dict)

    @field_validator("stages")
    @classmethod
    def _known(cls, stages: dict[str, Resources]) -> dict[str, Resources]:
        for name in stages:
            if name in _COMMANDS:
                raise ValueError(
                    f"unknown stage {name!r}; did you mean {_COMMANDS[name]}? (valid: {', '.join(STAGES)})"
                )
            if name not in STAGES:
                raise ValueError(str(unknown_name("stage", name, STAGES)))
        return stages

    def resources(self, stage: str) -> Resources:
        """Return what a stage's jobs ask for: its own words over the default's."""
        own = self.stages.get(stage.split("-")[0], Resources())
        return self.default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


NO_SITE = Site()


@dataclass(frozen=True)
class Cluster:
    """Where workers run that are not of this machine: what SLURM is like, or where Dask's scheduler listens."""

    site: Site | None = None
    dask_address: str | None = None

    def described(self) -> Site:
        """Return the site, where none is given what $NEUROSEG_CLUSTER says."""
        return site_named(None) if self.site is None else self.site


NO_CLUSTER = Cluster()


def site_named(name: str | None) -> Site:
    """Return the cluster in a file, or the packaged one of that name; None: $NEUROSEG_CLUSTER, or nothing special."""
    name = name or os.environ.get(VARIABLE)
    if not name:
        return NO_SITE
    path = Path(name)
    if not path.is_file():
        packaged = Path(str(resources.files("neuroseg.configs"))) / "clusters"
        path = packaged / f"{name}.yaml"
        if not path.is_file():
            known = sorted(file.stem for file in packaged.glob("*.yaml"))
            raise InputError(f"no cluster {name!r}: neither a file nor one of {', '.join(known)}")
    return load_configuration(path, Site)
