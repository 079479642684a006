"""Draw one of several perturbations -> the perturbed crop and the movement of its tissue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError, unknown_name
from neuroseg.networks.orientations import Orientation, orientations
from neuroseg.training.perturbations import appearance, movement
from neuroseg.training.perturbations.appearance import Float

IN_PLANE: Sequence[Orientation] = orientations("in_plane")
UNTURNED = IN_PLANE.index(Orientation((0, 1, 2), (False, False, False)))
_QUARTER_TURNS = tuple(
    IN_PLANE.index(Orientation(permutation, flips))
    for permutation, flips in (
        ((0, 2, 1), (False, True, False)), ((0, 1, 2), (False, True, True)), ((0, 2, 1), (False, False, True)),
    )
)  # fmt: skip
_FLIPS = tuple(
    IN_PLANE.index(Orientation((0, 1, 2), flips))
    for flips in ((False, True, False), (False, False, True), (True, False, False))
)

APPEARANCE: Mapping[str, Callable[[Float, np.random.Generator, float], Float]] = {
    "intensity": appearance.intensity, "noise": appearance.noise, "blur": appearance.blur,
    "cutout": appearance.cutout, "missing": appearance.missing, "strong_blur": appearance.strong_blur,
    "sobel": appearance.sobel,
}  # fmt: skip
MOVEMENT: Mapping[str, Callable[[movement.Shape, np.random.Generator, float], Float]] = {
    "misalign": movement.misalign, "elastic": movement.elastic, "rescale": movement.rescale, "fold": movement.fold,
}  # fmt: skip
TURNS: Mapping[str, Sequence[int]] = {"flip": _FLIPS, "rotate": _QUARTER_TURNS}
MIXUP = "mixup"
NAMES = (*APPEARANCE, *MOVEMENT, *TURNS, MIXUP)
PUBLISHED = ("intensity", "noise", "blur", "cutout", "misalign")


@dataclass(frozen=True)
class Perturbed:
    """The perturbed raw, its displacement (movement.py) or None, and the index of its orientation."""

    raw: Float
    displacement: Float | None = None
    turn: int = UNTURNED

    def follow(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels `(z, y, x)` moved with the tissue."""
        if self.displacement is not None:
            return movement.moved(labels, self.displacement, order=0)
        return IN_PLANE[self.turn].apply(labels)


def check_names(names: Sequence[str]) -> None:
    """Raise InputError for an unknown perturbation."""
    for name in names:
        if name not in NAMES:
            raise unknown_name("perturbation", name, NAMES)


def perturbed(
    raw: Float,
    names: Sequence[str],
    rng: np.random.Generator,
    *,
    strength: float = 1.0,
    other: Callable[[], Float] | None = None,
) -> Perturbed:
    """Return `raw` `(z, y, x)` in [0, 1] after one of the named perturbations, drawn with equal probability.

    `other` returns another crop of the same shape for mixup. Raises InputError for mixup without `other`, and for
    rotate if y and x of the crop differ. Without names, `raw` is unchanged.
    """
    if not names:
        return Perturbed(raw)
    name = names[int(rng.integers(len(names)))]
    if name in APPEARANCE:
        return Perturbed(APPEARANCE[name](raw, rng, strength))
    if name in MOVEMENT:
        displacement = MOVEMENT[name]((raw.shape[0], raw.shape[1], raw.shape[2]), rng, strength)
        return Perturbed(movement.moved(raw, displacement, order=1), displacement)
    if name == MIXUP:
        if other is None:
            raise InputError("mixup requires another crop")
        return Perturbed(appearance.mixup(raw, other(), rng, strength))
    if name == "rotate" and raw.shape[1] != raw.shape[2]:
        raise InputError(f"rotate requires crops with equal y and x, found {raw.shape}", hint="remove rotate")
    turn = TURNS[name][int(rng.integers(len(TURNS[name])))] if rng.uniform() < strength else UNTURNED
    return Perturbed(np.ascontiguousarray(IN_PLANE[turn].apply(raw)), turn=turn)
