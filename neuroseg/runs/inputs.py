"""Check that the input of a workspace has not changed since its results were computed, and describe changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from neuroseg.errors import InputError, RunRefusedError
from neuroseg.runs.plan import MaskPlan, Plan
from neuroseg.stage import Stage
from neuroseg.storage.identity_errors import NOT_COMPARABLE
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.affinity_source import open_stored
from neuroseg.volumes.content import Content, content_of
from neuroseg.volumes.input_checks import chunks_of
from neuroseg.volumes.input_paths import require_exists
from neuroseg.volumes.mask import open_mask
from neuroseg.volumes.volume import Volume

_NOUNS = {"raw": "volume", "affinities": "affinities array", "boundaries": "boundary map"}


def reads_input(plan: Plan, stage: Stage) -> bool:
    """Return whether a stage reads the user's input, not only outputs of other stages."""
    return ("raw" if plan.kind == "raw" else "affinities.zarr") in stage.inputs


def require_input(plan: Plan, workspace: Workspace) -> None:
    """Raise InputError if the input does not exist, and RunRefusedError if it changed since this run.

    A workspace of an earlier version without a record of its content is not checked.
    """
    noun = _NOUNS[plan.kind]
    require_exists(plan.path, noun, f"pass its new path with --input NEW (workspace {workspace.path})")
    if plan.input_content is not None and (changes := plan.input_content.changes_to(_content_now(plan))):
        raise RunRefusedError(
            f"the {noun} {plan.path} is not the input of {workspace.path}, or it has changed since this run: {changes}",
            hint="restore it, pass its new path with --input, or use another workspace with -o",
        )


def require_same_input(workspace: Workspace, plan: Plan, stage: Stage) -> None:
    """Check the input with `require_input` if a stage reads it."""
    if reads_input(plan, stage):
        require_input(plan, workspace)


def require_mask(plan: Plan, mask: MaskPlan) -> None:
    """Raise RunRefusedError if a mask changed since this run. Reads the whole mask."""
    grid = plan.grid
    plan.mask_source(mask)  # raises if it does not exist
    now = open_mask(mask.path, plan.shape, grid.voxel_size_nm, grid.offset_nm, grid.convention)
    if now.identity != mask.identity:
        found = MaskPlan(path=mask.path, identity=now.identity, content=now.content)
        changes = _mask_changes(mask, found) or f"the mask {mask.path} has changed since this run"
        raise RunRefusedError(changes, hint="restore it, or use it with --mask and --restart fragments")


@contextmanager
def unchanged_input(plan: Plan, workspace: Workspace, stage: Stage, forget: Callable[[], None]) -> Iterator[None]:
    """Check that the input does not change while a stage reads it. If it changes, call `forget` and raise.

    Raises the errors of `require_input`, and RunRefusedError if chunks appeared or vanished, because missing chunks are
    read as zeros.
    """
    if not reads_input(plan, stage):
        yield
        return
    chunks = chunks_of(_volume_now(plan))
    try:
        yield
    finally:
        try:
            require_input(plan, workspace)
            if (now := chunks_of(_volume_now(plan))) != chunks:
                raise RunRefusedError(
                    f"{plan.path} changed while stage {stage.name} read it: {chunks} before, {now} after",
                    hint="restore it, then run the same command again",
                )
        except InputError:
            forget()
            raise


def describe_changes(old: Plan, new: Plan) -> dict[str, str]:
    """Return texts that describe how the inputs changed since the last run, by key of the stages' identities."""
    volume = _changes(_NOUNS[new.kind], (old.path, old.input_content), (new.path, new.input_content))
    masks = [pair for pair in ((old.mask, new.mask), (old.predicted_mask, new.predicted_mask)) if _differ(*pair)]
    words = {"input": volume, "mask": _mask_changes(*masks[0]) if masks else ""}
    if new.kind != "raw":
        words["affinities"] = volume
    if old.model_identity and new.model_identity and _name(old.model_identity) == _name(new.model_identity):
        words["model"] = (
            f"the model {_name(new.model_identity)} has changed since this run (its weights, or network, offsets "
            f"or tiles in its card): {old.model_identity} -> {new.model_identity}"
        )
    return {key: text for key, text in words.items() if text}


def _volume_now(plan: Plan) -> Volume:
    if plan.kind == "affinities":
        return open_stored(plan.path, plan.selection, plan.voxel_size_nm)
    level = plan.level if plan.kind == "raw" else 0
    return open_any(plan.path, level=level, voxel_size_nm=plan.voxel_size_nm, selection=plan.selection)


def _content_now(plan: Plan) -> Content:
    return content_of(_volume_now(plan))


def _changes(noun: str, old: tuple[str, Content | None], new: tuple[str, Content | None]) -> str:
    """Return the differences between two paths and contents. Return an empty string if the contents are equal."""
    (old_path, old_content), (new_path, new_content) = old, new
    if old_content is None or new_content is None:
        return f"the {noun} {new_path} {NOT_COMPARABLE}, because an earlier version of neuroseg wrote this workspace"
    changes = old_content.changes_to(new_content)
    if not changes:
        return ""
    if old_path == new_path:
        return f"the {noun} {new_path} has changed since this run: {changes}"
    return f"the {noun} {new_path} differs from that of this run, {old_path}: {changes}"


def _differ(old: MaskPlan | None, new: MaskPlan | None) -> bool:
    return (old.identity if old else None) != (new.identity if new else None)


def _mask_changes(old: MaskPlan | None, new: MaskPlan | None) -> str:
    if old is None or new is None:
        return f"mask: {old.path if old else None} -> {new.path if new else None}"
    return _changes("mask", (old.path, old.content), (new.path, new.content))


def _name(model_identity: str) -> str:
    return model_identity.rpartition("@")[0]


def at_input(plan: Plan, place: str, workspace: Workspace) -> Plan:
    """Return the plan with another path of its input. Raises the errors of `require_input` if that is another input."""
    moved = plan.model_copy(update={"path": place})
    try:
        require_input(moved, workspace)
    except RunRefusedError:
        raise
    except InputError as error:
        raise InputError(f"--input {place}: {error.args[0]}", hint=error.hint) from error
    return moved
