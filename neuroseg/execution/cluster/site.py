"""The configuration of a cluster (configs/clusters/*.yaml), which --cluster names.

It contains shell commands that run in every job. So it comes only from the command line or $NEUROSEG_CLUSTER, never
from a workspace or another configuration file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import Field, field_validator

from neuroseg.configuration import Section, load_configuration
from neuroseg.errors import InputError, unknown_name

STAGES = ("sections", "affinities", "fragments", "edges", "agglomeration", "lookup", "relabel", "pyramid")
# The stages of a command, for users who write the name of a command.
_STAGES_OF_COMMAND = {
    "predict": "affinities", "prediction": "affinities", "segment": "fragments or edges",
    "segmentation": "fragments or edges", "agglomerate": "agglomeration",
}  # fmt: skip
# Flags of sbatch that neuroseg sets itself, because it needs them to find its jobs.
_RESERVED_FLAGS = {
    "--job-name", "-J", "--array", "-a", "--chdir", "-D", "--output", "-o", "--clusters", "--cluster", "-M",
    "--parsable", "--wait", "-W", "--uid", "--requeue", "--no-requeue",
}  # fmt: skip
VARIABLE = "NEUROSEG_CLUSTER"
PREDICTING = "affinities"
PREDICT, COMPUTE = "predict", "compute"
DEFAULT_JOBS = 2


class Resources(Section):
    """The resources of a worker's job. Missing ones get the cluster's defaults."""

    workers: int | None = Field(
        default=None, ge=1, description="Number of jobs at a time. Default: `--workers`, else 2."
    )
    partition: str | None = Field(default=None, description="Partition, as for `sbatch --partition`.")
    cpus: int = Field(default=1, ge=1, description="Cores of a job. A worker computes on one core.")
    gpus: int = Field(
        default=0,
        ge=0,
        description="GPUs of a job. A worker predicts on one GPU. 0 for `affinities`: predict on the CPU.",
    )
    memory: str | None = Field(default=None, description='Memory in quotes, as for `sbatch --mem`: `"16G"`.')
    time: str | None = Field(default=None, description='Time limit in quotes, as for `sbatch --time`: `"04:00:00"`.')
    sbatch: tuple[str, ...] = Field(
        default=(),
        description="More flags: `[--account=lab]`. Name, array, log and cluster are set by neuroseg and refused.",
    )

    @field_validator("memory", "time", mode="before")
    @classmethod
    def _is_quoted(cls, value: object) -> object:
        """Refuse numbers: YAML reads 4:00:00 as 14400, and the unit of a bare number is unclear."""
        if value is not None and not isinstance(value, str):
            raise ValueError('put it in quotes, in the format of sbatch: memory: "16G", time: "4:00:00"')
        return value

    @field_validator("sbatch")
    @classmethod
    def _has_no_reserved_flags(cls, flags: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse flags with which neuroseg could no longer find its jobs."""
        for flag in flags:
            if flag.split("=")[0] in _RESERVED_FLAGS or flag[:2] in _RESERVED_FLAGS:
                raise ValueError(f"neuroseg sets {flag} itself; remove it from sbatch")
        return flags


class Site(Section):
    """A cluster: the resources of its jobs, by default and per stage, and how jobs find Python and the head."""

    host: str | None = Field(
        default=None,
        description="Name or address of the head. Set it if compute nodes cannot resolve the head's name.",
    )
    port: int = Field(
        default=0, ge=0, le=65535, description="Port of the head. Set it if your firewall needs a fixed port. 0: any."
    )
    activate: str = Field(default="", description="Shell lines that each job runs first: modules, an environment.")
    launch: tuple[str, ...] = Field(default=(), description="Words before the worker's command, such as a container.")
    python: str | None = Field(default=None, description="Python of the jobs. Default: that of the head.")
    default: Resources = Field(default=Resources(), description="Resources of all stages.")
    stages: dict[str, Resources] = Field(
        default_factory=dict, description="Resources of single stages, by name. They override `default`."
    )

    @field_validator("stages")
    @classmethod
    def _are_known(cls, stages: dict[str, Resources]) -> dict[str, Resources]:
        for name in stages:
            if name in _STAGES_OF_COMMAND:
                raise ValueError(
                    f"unknown stage {name!r}; did you mean {_STAGES_OF_COMMAND[name]}? (valid: {', '.join(STAGES)})"
                )
            if name not in STAGES:
                error = unknown_name("stage", name, STAGES)
                raise ValueError("; ".join(filter(None, (str(error.args[0]), error.hint))))
        return stages

    def resources(self, stage: str) -> Resources:
        """Return the resources of a stage's jobs: those of the stage, completed by the default ones."""
        own = self.stages.get(stage.split("-")[0], Resources())
        return self.default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Return the stages of each kind of job, by the name of the kind.

        Stages with the same resources share a kind. The number of workers does not matter. The kind of a stage that
        predicts and has its own resources is `predict`, that of the first other stage `compute`.
        """
        alike: dict[Resources, list[str]] = {}
        for stage in STAGES:
            alike.setdefault(self.resources(stage).model_copy(update={"workers": None}), []).append(stage)
        return {_name_of_kind(stages): tuple(stages) for stages in alike.values()}

    def kind_of(self, stage: str) -> str:
        """Return the name of the kind of job that processes a stage."""
        return next(kind for kind, stages in self.kinds().items() if stage.split("-")[0] in stages)


def _name_of_kind(stages: Sequence[str]) -> str:
    """Return `predict`, `compute`, or `compute-STAGE` with the first stage of the kind that does not predict."""
    others = [stage for stage in STAGES if stage != PREDICTING]
    own = [stage for stage in stages if stage != PREDICTING]
    if not own:
        return PREDICT
    return COMPUTE if own[0] == others[0] else f"{COMPUTE}-{own[0]}"


NO_SITE = Site()


@dataclass(frozen=True)
class Cluster:
    """The cluster of a run: the configuration for SLURM or Dask, and the address of Dask's scheduler."""

    site: Site | None = None
    dask_address: str | None = None

    def loaded_site(self) -> Site:
        """Return the site. Without one, load the one that $NEUROSEG_CLUSTER names."""
        return site_named(None) if self.site is None else self.site


NO_CLUSTER = Cluster()


def site_named(name: str | None) -> Site:
    """Return the cluster configuration in a file, or the packaged one of that name.

    None means the one that $NEUROSEG_CLUSTER names, or an empty one if the variable is not set. Raises InputError if
    there is no such file or if its content is invalid.
    """
    where = "" if name else f" (from ${VARIABLE})"
    name = name or os.environ.get(VARIABLE)
    if not name:
        return NO_SITE
    path, packaged = Path(name), Path(str(resources.files("neuroseg.configs"))) / "clusters"
    if not path.is_file():
        path = packaged / f"{name}.yaml"
    if path.is_file():
        return load_configuration(path, Site)
    if Path(name).is_dir():
        raise InputError(f"{name}{where} is a folder, not a cluster configuration file")
    known = ", ".join(sorted(file.stem for file in packaged.glob("*.yaml")))
    raise InputError(
        f"cluster configuration {name}{where} does not exist",
        hint=f"pass the path of a YAML file, or the name of a packaged configuration: {known}",
    )
