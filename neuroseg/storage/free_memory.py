"""The memory that this process may still use: of the machine, and of its control groups (containers, cluster jobs)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/")


def free_memory_bytes(root: Path = _ROOT) -> int:
    """Return the free memory in bytes. Files that the system can drop from memory count as free.

    `root`: the folder that contains `proc` and `sys`.
    """
    return max(0, min([_free_in_machine(root), *_free_in_groups(root)]))


def _free_in_machine(root: Path) -> int:
    """Return what the machine has free. Without /proc/meminfo, files in memory do not count as free."""
    with suppress(OSError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_in_groups(root: Path) -> Iterator[int]:
    """Yield what each control group of this process leaves, and each group around it."""
    for folder in _groups(root):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                most, current = ((folder / name).read_text().strip() for name in (limit, used))
                words = dict(line.split()[:2] for line in (folder / "memory.stat").read_text().splitlines())
            except OSError:
                continue
            if most != "max":
                dropped = int(words.get("total_inactive_file", words.get("inactive_file", "0")))
                yield int(most) - int(current) + dropped


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups of memory. In a container, only the root may be visible."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        inside = mounted / path.lstrip("/")
        while inside != mounted:
            yield inside
            inside = inside.parent
        yield mounted
