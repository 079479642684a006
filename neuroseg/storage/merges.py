"""Read the merge tree and the node table of a workspace: the parts of all groups as one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from neuroseg.storage.parts import count_rows, parts_in, read_table
from neuroseg.storage.trees import Place, remove_all
from neuroseg.storage.workspace import MERGES, Workspace
from neuroseg.tables import NODES, TREE, Table, concatenated

_LEVEL = "level-"
Columns = Mapping[str, type[np.generic]]


def has_merges(workspace: Workspace) -> bool:
    """Return whether the merge tree and the node table exist. The last group writes its parts after all others."""
    return workspace.tree.is_file() and workspace.all_nodes.is_file()


def tree_parts(workspace: Workspace, columns: Columns = TREE) -> Iterator[Table]:
    """Yield the merges of each group by (score, u, v), those of smaller groups first. Errors as in `read_table`.

    Merges of groups of the same level share no fragment.
    """
    for place in (*_parts(workspace, "tree"), workspace.tree):
        yield read_table(place, columns)


def node_parts(workspace: Workspace, columns: Columns = NODES) -> Iterator[Table]:
    """Yield the fragments that each group knows completely, by ascending id. Errors as in `read_table`."""
    for place in (*_parts(workspace, "nodes"), workspace.all_nodes):
        yield read_table(place, columns)


def count_nodes(workspace: Workspace) -> int:
    """Return the number of fragments, from the footers of the files. Errors as in `read_table`."""
    return sum(count_rows(place) for place in (*_parts(workspace, "nodes"), workspace.all_nodes))


def read_tree(workspace: Workspace, columns: Columns = TREE) -> Table:
    """Return the merge tree sorted by (score, u, v), the order of merges. Errors as in `read_table`."""
    needed = {**columns, **{name: TREE[name] for name in ("score", "u", "v")}}
    tree = concatenated(list(tree_parts(workspace, needed)), needed)
    order = np.lexsort((tree["v"], tree["u"], tree["score"]))
    return {name: tree[name][order] for name in columns}


def read_nodes(workspace: Workspace, columns: Columns = NODES) -> Table:
    """Return the node table of the region by ascending fragment. Errors as in `read_table`."""
    needed = {**columns, "fragment": NODES["fragment"]}
    nodes = concatenated(list(node_parts(workspace, needed)), needed)
    order = np.argsort(nodes["fragment"])
    return {name: nodes[name][order] for name in columns}


def levels_of(workspace: Workspace) -> list[int]:
    """Return the levels whose groups have stored their merges, ascending."""
    folder = workspace.artifact(MERGES)
    names = [place.name for place in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name.removeprefix(_LEVEL)) for name in names if name.startswith(_LEVEL))


def remove_levels(workspace: Workspace, first: int) -> None:
    """Remove the tables of a level and of those above it."""
    for level in levels_of(workspace):
        if level >= first:
            remove_all(workspace.artifact(f"{MERGES}/{_LEVEL}{level}"))


def level_places(workspace: Workspace, is_wanted: Callable[[str], bool]) -> list[Place]:
    """Return the folders of the tables with the wanted names, of the groups of all levels."""
    folders = [workspace.artifact(f"{MERGES}/{_LEVEL}{level}") for level in levels_of(workspace)]
    return [place for folder in folders for place in folder.iterdir() if is_wanted(place.name)]


def _parts(workspace: Workspace, table: str) -> Iterator[Place]:
    for level in levels_of(workspace):
        yield from parts_in(workspace.artifact(f"{MERGES}/{_LEVEL}{level}/{table}")).values()
