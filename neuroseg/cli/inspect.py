"""The command `info`: describe a volume or a workspace. Does not load torch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from neuroseg.cli.options import Axes, Channel, Json, Model, Time
from neuroseg.cli.summary import print_json
from neuroseg.cli.tile_text import tile_lines, tiles_of
from neuroseg.geometry import parse_triple
from neuroseg.volumes.placement import UNKNOWN
from neuroseg.volumes.selection import Selection


def info(
    volume: Annotated[
        str, typer.Argument(metavar="VOLUME", help="A zarr, file.h5:dataset, s3:// address or workspace.")
    ],
    blocks: Annotated[
        str, typer.Option(metavar="N|Z,Y,X", help="Block size in voxels, to count the blocks of a run.")
    ] = "256",
    model: Model = None,
    axes: Axes = None,
    channel: Channel = None,
    time: Time = None,
    json: Json = False,
) -> None:
    """Describe a volume or a workspace.

    Use it before a run, to check voxel size, values, the disk space the run needs and the tiles of the model. For a
    workspace, it shows the finished blocks of each stage and the segmentation.

    \b
    Examples:
      neuroseg info volume.zarr
      neuroseg info data.h5:raw
      neuroseg info volume.neuroseg
    """
    from neuroseg.checks.contents import workspace_contents
    from neuroseg.storage.workspace import named_workspace

    workspace = named_workspace(volume)
    selection = Selection(axes, channel, time)
    content = _described(volume, blocks, model, selection) if workspace is None else workspace_contents(workspace)
    if json:
        print_json(content)
    elif workspace is not None:
        _print_workspace(content)
    else:
        _print_volume(content)


def _print_volume(content: dict[str, Any]) -> None:
    size = content["voxel_size_nm"]
    print(f"      shape {_size(content['shape'])} voxels (z y x), {content['dtype']}")
    print(f"     values {_values(content)}")
    known = f"{' x '.join(f'{edge:g}' for edge in size)} nm" if size else "unknown, add --voxel-size Z Y X to a run"
    print(f" voxel size {known}")
    place = f"{', '.join(f'{edge:g}' for edge in content['offset_nm'])} nm"
    convention = content["offset_convention"]
    print(f"     offset {'not stated' if convention == UNKNOWN else f'{place} ({convention} of the first voxel)'}")
    shards = f", shards {_size(content['shards'])}" if content["shards"] else ""
    print(f"     chunks {_size(content['chunks']) if content['chunks'] else 'none'}{shards}")
    if content["chunks_expected"] is not None:
        sampled = content["chunks_looked_at"] < content["chunks_expected"]
        about = f"about (from {content['chunks_looked_at']} samples) " if sampled else ""
        print(f"     stored {about}{content['chunks_stored']} of {content['chunks_expected']} chunks")
    for level, found in enumerate(content["levels"]):
        shape = " x ".join(map(str, found["shape"] or ())) or "missing"
        edges = " x ".join(f"{edge:g}" for edge in found["voxel_size_nm"] or ())
        print(f"    level {level} (path {found['path']}): {shape}{f', {edges} nm' if edges else ''}")
    if "disk_gb" in content:
        print(f"     blocks {content['blocks']} of {_size(content['block_voxels'])} voxels (--blocks)")
        affinities = _bytes(content["affinities_gb"])
        print(f"disk needed about {_bytes(content['disk_gb'])} for a run (affinities {affinities})")
        print(f"      model {content['model']}")
        for name, text in tile_lines(content["tiles"]):
            print(f"{name:>11} {text}")
    for finding in content["findings"]:
        print(f"    warning {finding}")


def _values(content: dict[str, Any]) -> str:
    if content["sampled_values"] is None:
        return f"{content['kind']}, none finite in a sample"
    low, high = content["sampled_values"]
    if content["kind"] == "labels":
        return f"labels, {content['sampled_ids']} ids in a sample, {low:.0f} to {high:.0f}"
    return f"raw, {low:g} to {high:g} in a sample"


def _print_workspace(content: dict[str, Any]) -> None:
    print(f"  workspace {content['path']}")
    print(f"      input {content['input']} ({content['input_kind']}), region {content['roi']}")
    if content["model"]:
        print(f"      model {content['model']}")
    for number, row in enumerate(content["stages"]):
        print(f"{'stages' if not number else '':>11} {row['stage']}: {row['done']} of {row['blocks']} blocks done")
    if content["segmentation"]:
        made_by = f"{content['scoring']}, threshold {content['threshold']:g}"
        print(f"   segments {content['segmentation']} ({made_by})")
    else:
        print("   segments not yet")


def _size(voxels: list[int]) -> str:
    return " x ".join(map(str, voxels))


def _bytes(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.0f} MB"


def _described(address: str, blocks: str, model: str | None, selection: Selection) -> dict[str, Any]:
    from neuroseg.blocks import whole_lattice
    from neuroseg.checks.contents import LABELS, volume_contents
    from neuroseg.networks.bundle import default_model, open_bundle
    from neuroseg.runs.space_needed import BYTES_PER_VOXEL, bytes_of_run
    from neuroseg.volumes.addresses import open_any

    opened = open_any(address, selection=selection)
    block = parse_triple(blocks, "--blocks")
    counts = whole_lattice(opened.shape, block).counts
    voxels = opened.roi.size
    content = {
        "path": address,
        "shape": list(opened.shape),
        "dtype": str(opened.dtype),
        "voxel_size_nm": list(opened.voxel_size_nm) if opened.voxel_size_nm else None,
        "offset_nm": list(opened.offset_nm),
        "offset_convention": opened.zero,
        "chunks": list(opened.chunks) if opened.chunks else None,
        "shards": list(opened.shards) if opened.shards else None,
        **volume_contents(opened, selection),
    }
    if content["kind"] == LABELS:
        return content
    bundle = open_bundle(model or default_model())
    return {
        **content,
        "block_voxels": list(block),
        "blocks": counts[0] * counts[1] * counts[2],
        "affinities_gb": BYTES_PER_VOXEL["affinities"] * voxels / 1e9,
        "disk_gb": bytes_of_run(voxels) / 1e9,
        "model": bundle.card.name,
        "tiles": tiles_of(bundle),
    }
