"""The commands `info`, `status` and `models`: what is there, quickly (torch is not loaded)."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from neuroseg.cli.summary import print_json
from neuroseg.geometry import parse_triple

_RECENT_S = 600.0
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


def status(
    workspace: Annotated[str, typer.Argument(help="A workspace, V.neuroseg.")],
    watch: Annotated[bool, typer.Option("--watch", help="Show again every two seconds until done.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show a run: blocks done, failed and left per stage, rate and time left.

    \b
    Example: neuroseg status volume.neuroseg --watch
    """
    while True:
        rows = _stage_rows(workspace)
        if json:
            print_json({"workspace": workspace, "stages": rows})
        else:
            _print_status(workspace, rows)
        if not watch or all(row["left"] == 0 for row in rows if row["begun"]):
            return
        time.sleep(2)


def _stage_rows(path: str) -> list[dict[str, Any]]:
    """Return one row per stage from the ledger."""
    from neuroseg.pipeline import workspace_at

    workspace, plan = workspace_at(path)
    rows = []
    for stage in plan.stages(workspace):
        ledger = workspace.ledger(stage.name, stage.identity, stage.scope)
        blocks = list(stage.lattice.blocks(stage.halo))
        left = len(ledger.pending(blocks))
        records, failures = ledger.records(), ledger.failures()
        rate = _rate(records)
        block_voxels = sum(block.write_roi.size for block in blocks) / max(1, len(blocks))
        rows.append(
            {
                "stage": stage.name,
                "begun": ledger.is_claimed(),
                "blocks": len(blocks),
                "done": len(blocks) - left,
                "failed": len(failures),
                "failures": {index: cause.splitlines()[0] for index, cause in failures.items()},
                "left": left,
                "mvoxel_per_s": rate,
                "seconds_left": left * block_voxels / 1e6 / rate if rate and left else None,
            }
        )
    return rows


def _rate(records: list[dict[str, Any]]) -> float | None:
    """Return the Mvoxel/s of the last ten minutes of work: a pause before it does not count."""
    last = max((r["time"] for r in records), default=0.0)
    recent = [r for r in records if r["time"] > last - _RECENT_S]
    first = min((r["time"] - r["seconds"] for r in recent), default=0.0)
    return sum(r["voxels"] for r in recent) / (last - first) / 1e6 if last > first else None


def _print_status(workspace: str, rows: list[dict[str, Any]]) -> None:
    print(f"{workspace}")
    print(f"{'stage':>14} {'done':>7} {'failed':>7} {'left':>7} {'Mvoxel/s':>9} {'time left':>10}")
    for row in rows:
        rate = f"{row['mvoxel_per_s']:.2f}" if row["mvoxel_per_s"] else "-"
        eta = f"{row['seconds_left']:.0f} s" if row["seconds_left"] else "-"
        print(f"{row['stage']:>14} {row['done']:>7} {row['failed']:>7} {row['left']:>7} {rate:>9} {eta:>10}")
    for row in rows:
        for index, cause in row["failures"].items():
            print(f"block {index}: {cause}\n  neuroseg replay {workspace} {row['stage']} {index}")
