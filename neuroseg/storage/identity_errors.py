"""The error of a stage whose results belong to another identity: another input, or other settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuroseg.errors import RunRefusedError

# Part of the description of an input that no earlier input can match.
NOT_COMPARABLE = "cannot be compared"


def other_identity(stage: str, differences: Sequence[str], changes: Mapping[str, str], restart: str) -> RunRefusedError:
    """Return the error of a stage with `differences` to the recorded identity.

    `changes` are descriptions of changed inputs and models, by their key. If one of them is in `differences`, it is
    the cause: settings such as the block shape may only follow from it. `restart` is the stage to name with --restart.
    """
    changed = [key for key, text in changes.items() if text in differences]
    inputs = [changes[key] for key in changed]
    kind = "model" if changed == ["model"] else "input"
    cause = f"from another {kind}" if inputs else "with other settings"
    ways = [
        f"to recompute this and all later stages, use --restart {restart}",
        "to have both, choose another workspace with -o",
    ]
    if not any(NOT_COMPARABLE in text for text in inputs):
        ways.insert(
            0, f"to keep them, {f'restore or name the earlier {kind}' if inputs else 'use the earlier settings'}"
        )
    return RunRefusedError(
        f"the results of stage {stage} were computed {cause}: {'; '.join(differences)}", hint="; ".join(ways)
    )
