"""The command `info`: what a volume is, quickly (torch is not loaded)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from neuroseg.cli.summary import print_json
from neuroseg.geometry import parse_triple

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def info(
    volume: Annotated[str, typer.Argument(help="A zarr array, OME-NGFF image, group with raw, or file.h5:dataset.")],
    blocks: Annotated[str, typer.Option(help="Block size that the estimate assumes.")] = "256",
    json: JsonFlag = False,
) -> None:
    """Show a volume: shape, voxel size, chunks, type, and what a run would need.

    \b
    Example: neuroseg info volume.zarr
    """
    content = _described(volume, blocks)
    if json:
        print_json(content)
        return
    size = content["voxel_size_nm"]
    print(f"      shape {' x '.join(map(str, content['shape']))} voxels (z y x), {content['dtype']}")
    known = f"{' x '.join(f'{edge:g}' for edge in size)} nm" if size else "unknown: give --voxel-size Z Y X"
    print(f" voxel size {known}")
    print(f"     offset {' x '.join(f'{edge:g}' for edge in content['offset_nm'])} nm")
    print(f"     chunks {content['chunks']}  shards {content['shards']}")
    print(f"     blocks {content['blocks']} of {content['block_voxels']} voxels")
    print(f"disk needed about {_bytes(content['disk_gb'])} (affinities {_bytes(content['affinities_gb'])})")


def _bytes(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.0f} MB"


def _described(address: str, blocks: str) -> dict[str, Any]:
    from neuroseg.blocks import whole_lattice
    from neuroseg.needs import BYTES_PER_VOXEL, bytes_of_run
    from neuroseg.storage.files import open_any

    opened = open_any(address)
    block = parse_triple(blocks, "--blocks")
    counts = whole_lattice(opened.shape, block).counts
    voxels = opened.roi.size
    return {
        "path": address,
        "shape": list(opened.shape),
        "dtype": str(opened.dtype),
        "voxel_size_nm": list(opened.voxel_size_nm) if opened.voxel_size_nm else None,
        "offset_nm": list(opened.offset_nm),
        "chunks": list(opened.array.chunks) if opened.array.chunks else None,
        "shards": list(getattr(opened.array, "shards", None) or []) or None,
        "block_voxels": list(block),
        "blocks": counts[0] * counts[1] * counts[2],
        "affinities_gb": BYTES_PER_VOXEL["affinities"] * voxels / 1e9,
        "disk_gb": bytes_of_run(voxels) / 1e9,
    }
