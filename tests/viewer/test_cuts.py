"""The segmentation at a threshold: the same segments as a run writes, with names that stay."""

from __future__ import annotations

import numpy as np
import pytest

from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.geometry import whole
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import read_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import NODES, TREE
from neuroseg.viewer.cuts import Cut, Tree
from neuroseg.viewer.session import Session


@pytest.fixture(scope="module")
def session(finished: tuple[Workspace, str]) -> Session:
    return Session(str(finished[0].path), finished[1])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.55, 0.9, 1.0])
@pytest.mark.parametrize("size", [0, 200])
def test_a_cut_has_the_segments_of_a_run(finished: tuple[Workspace, str], threshold: float, size: int) -> None:
    workspace, _ = finished
    tree, nodes = read_table(workspace.tree, TREE), read_table(workspace.all_nodes, NODES)
    wanted = segment_lookup(tree, nodes, threshold=threshold, min_size_voxels=size)["segment"]
    cut = Tree(workspace, "merge").cut(threshold, size)
    assert cut.segments == wanted.max()
    pairs = np.unique(np.stack([wanted, cut.names]), axis=1)
    assert pairs.shape[1] == len(np.unique(wanted)) == len(np.unique(cut.names))
    sizes = np.bincount(wanted.astype(int), nodes["voxel_count"])
    sizes[0] = 0
    assert cut.largest_share == pytest.approx(sizes.max() / nodes["voxel_count"].sum())


def test_a_segment_is_named_after_its_smallest_fragment(finished: tuple[Workspace, str]) -> None:
    tree = Tree(finished[0], "merge")
    low, high = tree.cut(0.3), tree.cut(0.9)
    for cut in (low, high):
        for name in np.unique(cut.names):
            assert tree.fragments[cut.names == name].min() == name
    kept = np.intersect1d(low.names, high.names)
    assert len(kept) == high.segments, "what merged takes the smallest name"


def test_chunks_have_the_voxels_of_the_cut(session: Session, finished: tuple[Workspace, str]) -> None:
    cut = session.cut(0.55, 0)
    fragments = np.asarray(open_array(finished[0].fragments)[:])
    rows = np.searchsorted(session.tree.fragments, fragments[17, 0:90, 0:150])  # type: ignore[union-attr]
    expected = np.where(fragments[17, 0:90, 0:150] > 0, cut.names[np.minimum(rows, len(cut.names) - 1)], 0)
    found = np.frombuffer(session.chunk("segmentation", cut.version, 0, "0-150_0-90_17-18"), "<u8").reshape(90, 150)
    np.testing.assert_array_equal(found, expected)


def test_the_segmentation_of_the_run_is_what_the_viewer_begins_with(
    session: Session, finished: tuple[Workspace, str]
) -> None:
    begun = session.beginning()
    version = session.cut(begun["threshold"], begun["min_size"]).version
    found = np.frombuffer(session.chunk("segmentation", version, 0, "0-150_0-90_7-8"), "<u8").reshape(90, 150)
    written = np.asarray(open_array(finished[0].segmentation / "0")[7])
    pairs = np.unique(np.stack([found.ravel(), written.ravel().astype(np.uint64)]), axis=1)
    assert pairs.shape[1] == len(np.unique(found)) == len(np.unique(written))


def test_scores_are_those_of_evaluate(session: Session, finished: tuple[Workspace, str]) -> None:
    from neuroseg.checks.score import Request, score

    workspace, truth = finished
    begun = session.beginning()
    found = session.described_cut(begun["threshold"], begun["min_size"])
    result = score(Request(str(workspace.path), truth))
    assert found["voi_split"] == pytest.approx(result["voi_split"])
    assert found["voi_merge"] == pytest.approx(result["voi_merge"])


def test_selected_segments_are_followed(session: Session) -> None:
    tree = session.tree
    assert tree is not None
    low, high = session.cut(0.3, 0), session.cut(0.9, 0)
    merged = next(row for row in range(len(low.names)) if low.names[row] != high.names[row])
    found = session.described_cut(0.9, 0, [int(low.names[merged])])
    assert found["selected"] == [str(high.names[merged])]
    assert session.described_cut(0.9, 0, [10**15])["selected"] == [], "an unknown segment"


def test_a_mesh_has_the_volume_of_its_segment(session: Session) -> None:
    from neuroseg.views.mesh import volume_nm3

    cut = session.cut(0.55, 0)
    name = _largest(session, cut)
    content = session.mesh("segmentation", cut.version, name)
    count = int(np.frombuffer(content, "<u4", 1)[0])
    vertices = np.frombuffer(content, "<f4", 3 * count, 4).reshape(-1, 3)
    faces = np.frombuffer(content, "<u4", -1, 4 + 12 * count).reshape(-1, 3)
    tree = session.tree
    assert tree is not None
    begins, lasts = tree.boxes_of(np.flatnonzero(cut.names == name))
    size = np.array([10, 10, 40])
    assert np.all(vertices.min(0) >= begins.min(1)[::-1] * size - 0.01)
    assert np.all(vertices.max(0) <= (lasts.max(1)[::-1] + 1) * size + 0.01)
    fragments = session.shown.layers["fragments"]
    rows = tree.rows_of(fragments.read(whole(fragments.shape)))
    voxels = int(np.count_nonzero((rows >= 0) & (cut.names[rows] == name)))
    assert abs(volume_nm3(vertices, faces.astype(np.int64))) == pytest.approx(voxels * 4000, rel=0.05)


def test_an_unknown_segment_has_an_empty_mesh(session: Session) -> None:
    """An error would leave the viewer waiting."""
    version = session.cut(0.55, 0).version
    for segment in (0, 10**15):
        assert session.mesh("segmentation", version, segment) == b"\0\0\0\0"


def _largest(session: Session, cut: Cut) -> int:
    names, rows = np.unique(cut.names, return_inverse=True)
    assert session.tree is not None
    return int(names[np.argmax(np.bincount(rows, session.tree._rows.sizes))])
