"""Sides of the links of a segment, and the contacts between them: by hand, and against sets of fragments."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.evaluation.segment_cuts import SegmentCuts

Links = list[tuple[int, int]]


def test_a_chain_with_a_contact_beside_it() -> None:
    # Fragments 0 - 1 - 2 - 3 are linked. 0 and 2 also touch, and so does fragment 4 of another segment.
    cuts = SegmentCuts(np.array([1, 2, 1]), np.array([0, 3, 2]), np.array([1, 2, 4, 8, 99]))
    assert cuts.one.tolist() == [14, 7, 3]
    assert cuts.other.tolist() == [1, 8, 12]
    edges = (np.array([0, 1, 2, 0, 3]), np.array([1, 2, 3, 2, 4]), np.array([10, 20, 30, 5, 77]))
    assert cuts.contacts(cuts.crossings(*edges)).tolist() == [15, 30, 25]


def test_no_links() -> None:
    none = np.zeros(0, np.int64)
    cuts = SegmentCuts(none, none, np.array([3, 4]))
    assert len(cuts.one) == len(cuts.contacts(cuts.crossings(none, none, none))) == 0


def sides_of(links: Links, at: int) -> tuple[set[int], set[int]]:
    """The fragments that each end of a link reaches without it."""
    sides = []
    for end in links[at]:
        reached, size = {end}, 0
        while len(reached) > size:
            size = len(reached)
            for number, (one, other) in enumerate(links):
                if number != at and {one, other} & reached:
                    reached |= {one, other}
        sides.append(reached)
    return sides[0], sides[1]


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), count=st.integers(2, 30), reach=st.sampled_from([1, 3, 30]))
def test_sides_and_contacts_of_each_link(seed: int, count: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 100, count)
    # A random forest with random names. A small reach gives long chains.
    names = rng.permutation(count)
    pairs = [
        (child, max(0, child - int(rng.integers(1, reach + 1)))) for child in range(1, count) if rng.random() < 0.9
    ]
    links = [(int(names[a]), int(names[b])) for a, b in rng.permutation(pairs).reshape(-1, 2)]
    u, v = np.array(links, np.int64).reshape(-1, 2).T.copy()
    ends, counts = rng.integers(0, count, (2, 80)), rng.integers(1, 9, 80)
    cuts = SegmentCuts(u, v, sizes)
    halves = (slice(0, 30), slice(30, 80))
    crossings = sum(cuts.crossings(ends[0, half], ends[1, half], counts[half]) for half in halves)
    contacts = cuts.contacts(np.asarray(crossings))
    for at in range(len(links)):
        one, other = sides_of(links, at)
        assert (cuts.one[at], cuts.other[at]) == (sizes[list(one)].sum(), sizes[list(other)].sum())
        rows = zip(*ends.tolist(), counts.tolist(), strict=True)
        assert contacts[at] == sum(n for a, b, n in rows if (a in one and b in other) or (b in one and a in other))
