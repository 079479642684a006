"""Which windows a network takes, and how much smaller what comes out is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroseg.errors import InputError
from neuroseg.geometry import Triple


@dataclass(frozen=True)
class WindowRule:
    """Windows whose width is `remainder` more than a multiple of `divisor` on each axis, and at least `least`.

    `margin` voxels are lost on each side (valid convolutions); 0 for networks that pad.
    """

    divisor: Triple
    remainder: Triple = (0, 0, 0)
    margin: Triple = (0, 0, 0)
    least: Triple = (1, 1, 1)

    def allows(self, window: Sequence[int]) -> bool:
        """Return whether the network takes a window of that shape."""
        axes = zip(window, self.divisor, self.remainder, self.least, strict=True)
        return all(size >= least and size % divisor == remainder for size, divisor, remainder, least in axes)

    def __str__(self) -> str:
        texts = []
        for divisor, remainder, least in zip(self.divisor, self.remainder, self.least, strict=True):
            plus = f" + {remainder}" if remainder else ""
            texts.append((f"{divisor} n{plus}" if divisor > 1 else "any") + (f" >= {least}" if least > 1 else ""))
        return f"({', '.join(texts)})"


def checked_margin(rule: WindowRule, output: Triple, context: Triple, blend: str) -> Triple:
    """Return the voxels that a network loses on each side; raises InputError when it cannot make the tiles."""
    window = [o + 2 * c for o, c in zip(output, context, strict=True)]
    if not rule.allows(window):
        raise InputError(f"windows of {window} voxels do not suit the network: {rule}; change tile or context")
    if any(c < m for c, m in zip(context, rule.margin, strict=True)):
        raise InputError(f"the network loses {rule.margin} voxels on each side, the context has {context}")
    if any(rule.margin) and blend == "gaussian":
        raise InputError("blend gaussian weighs whole windows; this network gives their centres alone: use centre")
    return rule.margin
