"""The needs of volumes by size -> Markdown tables between two marks of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from growth_model import KASTHURI15, PETAVOXEL

BEGIN, END = "<!-- scripts/scale model: begin -->", "<!-- scripts/scale model: end -->"
_GIB, _TB = 2**30, 1e12
_SHOWN = (KASTHURI15, PETAVOXEL)
_SUFFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def with_tables(page: str, result: Mapping[str, Any]) -> str:
    """Return a page with the tables of a result between its marks. Raises ValueError without marks."""
    before, is_begun, rest = page.partition(BEGIN)
    _, is_ended, after = rest.partition(END)
    if not is_begun or not is_ended:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{_tables(result)}\n\n{END}{after}"


def _tables(result: Mapping[str, Any]) -> str:
    """Return all tables, each with a title."""
    volumes, constants = result["volumes"], result["constants"]
    shown = [needs for needs in volumes if needs["name"] in _SHOWN]
    titled = {
        "The limits, and the smallest cube that reaches each of them:": _limits(result["limits"]),
        "Time of all workers, disk and files:": _volumes(volumes),
        "Memory and time of single processes:": _processes(volumes),
        "Core-hours by stage:": _by_part(shown, "stage", "core_hours", 1),
        "TB of disk by artifact:": _by_part(shown, "artifact", "disk_bytes", _TB),
        **{f"Groups of the agglomeration of {needs['name']}:": _levels(needs["levels"]) for needs in shown},
        "The constants:": _constants(constants),
        "How well the rows of groups are known:": _fit(result["fit"], constants["open_rows"]),
    }
    return "\n\n".join(f"{title}\n\n{table}" for title, table in titled.items())


def _limits(limits: Sequence[Mapping[str, Any]]) -> str:
    rows = [[each["limit"], voxels_in_words(each["voxels"]), each["effect"]] for each in limits]
    return _table(["limit", "reached at", "beyond it"], rows)


def _volumes(volumes: Sequence[Mapping[str, Any]]) -> str:
    head = ["volume", "voxels", "blocks", "core-hours", "disk, TB", "files", "most entries of a folder"]
    rows = [
        [needs["voxels"], needs["blocks"], sum(needs["core_hours"].values()), sum(needs["disk_bytes"].values()) / _TB,
         needs["files"], needs["most_entries"]]
        for needs in volumes
    ]  # fmt: skip
    return _table(head, _named(volumes, rows))


def _processes(volumes: Sequence[Mapping[str, Any]]) -> str:
    head = ["volume", "last group: rows", "GiB", "hours", "simulated edges: GiB", "`lookup`: GiB", "hours", "head: GiB",
            "hours to distribute blocks", "workers that it feeds"]  # fmt: skip
    rows = []
    for needs in volumes:
        last, memory = needs["levels"][-1], needs["worker_bytes"]
        rows.append([
            last["group_rows"], last["group_bytes"] / _GIB, last["group_hours"], memory["last group, simulated"] / _GIB,
            memory["lookup"] / _GIB, needs["core_hours"]["lookup"], needs["head_bytes"] / _GIB, needs["head_hours"],
            needs["fed_workers"],
        ])  # fmt: skip
    return _table(head, _named(volumes, rows))


def _named(volumes: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[float]]) -> list[list[str]]:
    return [[needs["name"], *map(short, numbers)] for needs, numbers in zip(volumes, rows, strict=True)]


def _by_part(shown: Sequence[Mapping[str, Any]], title: str, key: str, unit: float) -> str:
    rows = [[f"`{name}`", *(short(needs[key][name] / unit) for needs in shown)] for name in shown[0][key]]
    return _table([title, *(needs["name"] for needs in shown)], rows)


def _levels(levels: Sequence[Mapping[str, Any]]) -> str:
    keys = ("groups", "rows", "group_rows")
    rows = [
        [str(number), *(short(level[key]) for key in keys), short(level["group_bytes"] / _GIB),
         short(level["group_hours"])]
        for number, level in enumerate(levels, 1)
    ]  # fmt: skip
    return _table(
        ["level", "groups", "rows of all groups", "rows of a group", "its memory, GiB", "its time, hours"], rows
    )


def _constants(constants: Mapping[str, Any]) -> str:
    rows = [
        ["fragments per voxel", f"{constants['fragments_a_voxel']:.2g}"],
        ["rows of edges per voxel", f"{constants['rows_a_voxel']:.2g}"],
        ["microseconds of a worker per row that a group reads", f"{1e6 * constants['row_seconds']:.2g}"],
        ["microseconds of `lookup` per fragment", f"{1e6 * constants['lookup_seconds']:.2g}"],
        ["milliseconds of the head per block", f"{1e3 * constants['head_seconds_a_block']:.2g}"],
    ]
    names = {
        "group_memory": "row of a group",
        "lookup_memory": "fragment in `lookup`",
        "head_memory": "block in the head",
    }
    for key, name in names.items():
        line = constants[key]
        deviation = f"{_percent(line['worst'])} of {line['measurements']} measurements"
        rows.append([f"bytes per {name}", f"{line['slope']:.0f} (largest deviation {deviation})"])
    return _table(["constant", "value"], rows)


def _fit(fit: Mapping[str, Any], laws: Mapping[str, Any]) -> str:
    head = ["measured", "levels", "rows grow like", "waiting", "thickness in fragments", "largest deviation",
            "largest measurement from the smaller ones"]  # fmt: skip
    rows = []
    for name, found in fit.items():
        law = laws[name]
        thickness = (
            f"{law['thickness']:.1f} - {law['narrower']:.0f} / width" if law["narrower"] else f"{law['thickness']:.1f}"
        )
        worst = (_percent(max(found[key], key=abs, default=None)) for key in ("deviations", "from_smaller"))
        waiting = f"{100 * law['waiting']:.1f} %"
        rows.append([name, str(found["levels"]), found["grows_like"], waiting, thickness, *worst])
    return _table(head, rows)


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:+.0%}".replace("%", " %")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def voxels_in_words(number: float | None) -> str:
    """Return a number of voxels: 2.6 Tvoxel."""
    return "not reached" if number is None else f"{short(number)}voxel"


def short(number: float) -> str:
    """Return a number with two digits or more: <0.001, 0.034, 4.1, 820, 17 k, 1.2 M."""
    if 0 < number < 0.001:
        return "<0.001"
    for size, suffix in _SUFFIXES:
        if number >= 0.995 * size:
            return f"{_digits(number / size)} {suffix}"
    return _digits(number)


def _digits(number: float) -> str:
    """Return a number below 1000 with two digits, or all before the point."""
    return f"{number:.0f}" if number >= 9.95 else f"{number:.2g}"
