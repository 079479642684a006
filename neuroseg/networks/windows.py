"""The window sizes that a network accepts, and the voxels that it loses on each side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuroseg.errors import InputError
from neuroseg.geometry import Triple

# Limit for the input voxels of one forward pass: 512^3. The first features of the light network then take 8 GiB.
MOST_WINDOW_VOXELS = 2**27
# Limit for the width of an output tile.
WIDEST_VOXELS = 65536


@dataclass(frozen=True)
class WindowRule:
    """Accepted windows: on each axis a multiple of `divisor` plus `remainder`, and at least `least`.

    `margin`: voxels lost on each side by valid convolutions; 0 for networks that pad.
    """

    divisor: Triple
    remainder: Triple = (0, 0, 0)
    margin: Triple = (0, 0, 0)
    least: Triple = (1, 1, 1)

    def allows(self, window: Sequence[int]) -> bool:
        """Return whether the network accepts a window of this shape."""
        return all(self.allows_on(axis, size) for axis, size in enumerate(window))

    def allows_on(self, axis: int, size: Any) -> Any:
        """Return whether the network accepts windows of a size, or of each size in an array, on one axis."""
        return (size >= self.least[axis]) & (size % self.divisor[axis] == self.remainder[axis])

    def __str__(self) -> str:
        texts = []
        for divisor, remainder, least in zip(self.divisor, self.remainder, self.least, strict=True):
            plus = f" + {remainder}" if remainder else ""
            texts.append((f"{divisor} n{plus}" if divisor > 1 else "any") + (f" >= {least}" if least > 1 else ""))
        return f"({', '.join(texts)})"


def checked_margin(rule: WindowRule, output: Triple, context: Triple, blend: str) -> Triple:
    """Return the voxels that a network loses on each side. Raises InputError if it cannot produce the tiles."""
    window = [o + 2 * c for o, c in zip(output, context, strict=True)]
    if not rule.allows(window):
        raise InputError(
            f"the network does not accept windows of {window} voxels; expected {rule}",
            hint="change the tile or its context",
        )
    if any(c < m for c, m in zip(context, rule.margin, strict=True)):
        raise InputError(f"the network loses {rule.margin} voxels on each side, but the context is only {context}")
    if any(rule.margin) and blend == "gaussian":
        raise InputError(
            "this network predicts only the centre of a window, so blend gaussian is impossible", hint="use centre"
        )
    return rule.margin
