"""Remove artifacts that no later stage reads, as soon as the stages that read them are complete.

    fragments -> provisional.zarr, entries -> edges -> agglomeration ...
                 removed when all blocks of edges are done

The done marks of their blocks stay, as released blocks. If a block of edges must run again, what it reads is recomputed
first (pending.py, damage.py), and removed again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from neuroseg.execution.block import ledger_of
from neuroseg.stage import Stage
from neuroseg.storage.cleaning import TEMPORARY, remove, temporary
from neuroseg.storage.workspace import Workspace

logger = logging.getLogger(__name__)


def is_temporary(stage: Stage) -> bool:
    """Return whether the outputs of a stage are removed during the run."""
    return not set(stage.outputs).isdisjoint(TEMPORARY)


def readers_of(every: Sequence[Stage], maker: Stage) -> list[Stage]:
    """Return the stages that read an output of a stage."""
    return [stage for stage in every if not set(maker.outputs).isdisjoint(stage.inputs)]


def remove_temporary(workspace: Workspace, every: Sequence[Stage]) -> None:
    """Remove temporary artifacts, or what is left of them, if all blocks that read them are done.

    If the removal fails, the run goes on: a later call tries again.
    """
    for maker in [stage for stage in every if is_temporary(stage)]:
        places = temporary(workspace)
        if places and not any(_has_pending(workspace, reader) for reader in readers_of(every, maker)):
            # Mark first: a released block may still have files, but a stored block must have them.
            ledger_of(workspace, maker).release_all()
            try:
                remove(places)
            except OSError as error:
                logger.warning("cannot remove %s: %s", ", ".join(map(str, places)), error)


def most_at_a_time(every: Sequence[Stage], sizes: Mapping[str, float]) -> float:
    """Return the largest total of stages' outputs during a run, from the size of each stage's outputs by its name.

    Temporary outputs count only until the stages that read them are complete.
    """
    total = sum(sizes.values())
    temporary = [stage for stage in every if is_temporary(stage)]
    if not temporary:
        return total
    last = max(every.index(reader) for maker in temporary for reader in readers_of(every, maker))
    later = sum(sizes[stage.name] for stage in every[last + 1 :])
    return total - min(later, sum(sizes[stage.name] for stage in temporary))


def _has_pending(workspace: Workspace, stage: Stage) -> bool:
    return bool(ledger_of(workspace, stage).pending(stage.lattice.blocks(stage.halo)))
