"""Names of labels by their first voxel, which are unique in a volume of several blocks."""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.blocks import whole_lattice
from neuroseg.fragments.first_voxels import named_by_first_voxel
from neuroseg.geometry import Triple, slices


def test_each_label_is_named_by_its_first_voxel_in_the_volume() -> None:
    # The block lies at (1, 2, 3) in a volume of 4 x 5 x 6 voxels: its first voxel has index 1*30 + 2*6 + 3 = 45.
    labels = np.array([[[2, 2], [0, 7]], [[7, 2], [1, 1]]], np.uint64)
    named = named_by_first_voxel(labels, 7, Roi((1, 2, 3), (2, 2, 2)), (4, 5, 6))
    assert named.tolist() == [[[46, 46], [0, 53]], [[53, 46], [82, 82]]]


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    block=st.tuples(*[st.integers(1, 9)] * 3),
    labels=st.integers(0, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_names_are_unique_over_the_volume(shape: Triple, block: Triple, labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen: set[int] = set()
    for cut in whole_lattice(shape, block).blocks():
        made = rng.integers(0, labels + 1, tuple(cut.write_roi.shape)).astype(np.uint64)
        named = named_by_first_voxel(made, labels, cut.write_roi, shape)
        pairs = set(zip(made.ravel().tolist(), named.ravel().tolist(), strict=True))
        assert len(pairs) == len({label for label, _ in pairs}) == len({name for _, name in pairs})
        assert (0 in made) == (0 in named)
        names = {name for label, name in pairs if label}
        assert not names & seen
        seen |= names
        volume = np.zeros(shape, np.uint64)
        volume[slices(cut.write_roi)] = named
        assert all(volume.ravel()[name - 1] == name for name in names)
