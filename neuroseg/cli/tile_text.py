"""The tiles of a model for people and for JSON: on CPUs and on GPUs, with the voxels computed for each voxel kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuroseg.networks.bundle import Bundle

_KINDS = {"cpu": "CPU", "cuda": "GPU"}


def tiles_of(bundle: Bundle) -> dict[str, Any]:
    """Return the tile of a model on each kind of device: sizes in voxels, batch, blend, voxels computed per voxel."""
    tiles = {kind: bundle.on(kind).card.tile for kind in _KINDS}
    return {
        _KINDS[kind].lower(): {**tile.model_dump(mode="json"), "computed_per_kept": round(tile.computed_per_kept, 3)}
        for kind, tile in tiles.items()
    }


def tile_lines(tiles: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a name and a text for each tile of `tiles_of`."""
    return [(f"{kind.upper()} tile", _tile_text(tile)) for kind, tile in tiles.items()]


def _tile_text(tile: dict[str, Any]) -> str:
    size = " x ".join(map(str, tile["output_voxels"]))
    blend = "" if tile["blend"] == "centre" else f", blend {tile['blend']}"
    return (
        f"{size} voxels, batch {tile['batch']}{blend}, computes {tile['computed_per_kept']:.1f} voxels per voxel kept"
    )
