"""Triples, regions and offsets: what is read, what is refused, and with which message."""

from __future__ import annotations

import pytest
from funlib.geometry import Roi

from neuroseg.errors import InputError
from neuroseg.geometry import (
    contact_channels,
    describe,
    grown,
    parse_offsets,
    parse_roi,
    parse_triple,
    slices,
    triple,
    voxels_between,
    whole,
)

SHAPE = (10, 20, 30)


def test_triple_needs_three_values() -> None:
    assert triple([1, 2, 3]) == (1, 2, 3)
    with pytest.raises(InputError, match=r"three values.*\[1, 2\]"):
        triple([1, 2])


@pytest.mark.parametrize(
    ("text", "expected"), [("256", (256,) * 3), ("64,256,128", (64, 256, 128)), (" 1, 2 ,+3 ", (1, 2, 3))]
)
def test_one_number_or_three_make_a_triple(text: str, expected: tuple[int, int, int]) -> None:
    assert parse_triple(text, "--blocks") == expected


@pytest.mark.parametrize("text", ["", "a", "1,2", "1,2,3,4", "1.5", "64x64x64", "1,,2", "- 1"])
def test_a_malformed_triple_is_refused_with_what_was_found_and_an_example(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_triple(text, "--blocks")
    assert "--blocks" in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "64,256,256" in str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "4,0,4", "4,4,-4"])
def test_a_triple_that_is_not_positive_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"contains (0|-1|-4), expected 1 or more"):
        parse_triple(text, "--blocks")


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("1:2,3:5,4:30", (1, 3, 4), (2, 5, 30)),
        (":,:,:", (0, 0, 0), SHAPE),
        ("5:, :7 ,29:30", (5, 0, 29), (10, 7, 30)),
        ("0:10,0:20,0:30", (0, 0, 0), SHAPE),
    ],
)
def test_roi_text_means_voxels_and_missing_ends_are_the_volumes(
    text: str, begin: tuple[int, ...], end: tuple[int, ...]
) -> None:
    roi = parse_roi(text, SHAPE)
    assert (tuple(roi.begin), tuple(roi.end)) == (begin, end)


def test_described_roi_parses_back() -> None:
    roi = Roi((1, 2, 3), (4, 5, 6))
    assert describe(roi) == "1:5,2:7,3:9"
    assert parse_roi(describe(roi), SHAPE) == roi


@pytest.mark.parametrize("text", ["", "1:2", "1:2,3:4", "1:2,3:4,5:6,7:8", "1,2,3", "a:b,0:1,0:1", "0:1:2,0:1,0:1"])
def test_a_malformed_roi_is_refused_with_the_form_it_should_have(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_roi(text, SHAPE)
    assert repr(text) in str(caught.value)
    assert "z0:z1,y0:y1,x0:x1" in str(caught.value)


@pytest.mark.parametrize("text", ["-:5,0:1,0:1", "0:-,0:1,0:1"])
def test_a_lone_minus_sign_in_a_roi_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="ROI"):
        parse_roi(text, SHAPE)


@pytest.mark.parametrize("text", ["3:3,0:1,0:1", "0:1,5:4,0:1", "0:1,0:1,0:0", "10:,0:1,0:1"])
def test_an_empty_roi_is_refused_with_the_volumes_extent(text: str) -> None:
    with pytest.raises(InputError, match=r"empty.*0:10,0:20,0:30"):
        parse_roi(text, SHAPE)


@pytest.mark.parametrize("text", ["0:11,0:1,0:1", "0:1,-1:5,0:1", "0:1,0:1,0:31"])
def test_a_roi_outside_the_volume_is_refused_with_the_volumes_extent(text: str) -> None:
    with pytest.raises(InputError, match=r"outside.*0:10,0:20,0:30"):
        parse_roi(text, SHAPE)


def test_slices_count_from_the_arrays_first_voxel() -> None:
    roi = Roi((5, 6, 7), (1, 2, 3))
    assert slices(roi) == (slice(5, 6), slice(6, 8), slice(7, 10))
    assert slices(roi, (5, 4, 0)) == (slice(0, 1), slice(2, 4), slice(7, 10))


def test_grown_regions_stop_at_the_bounds() -> None:
    assert grown(Roi((0, 5, 18), (2, 2, 2)), (1, 2, 3), whole((3, 10, 20))) == Roi((0, 3, 15), (3, 6, 5))


def test_voxels_between_offsets_are_exact_for_fractional_voxels() -> None:
    assert voxels_between((30, 12.6, -6.3), (0, 0, 0), (30, 6.3, 6.3)) == (1, 2, -1)
    assert voxels_between((40, 40, 40), (40, 0, 80), (40, 4, 4)) == (0, 10, -10)


def test_offsets_half_a_voxel_apart_are_refused_with_both_offsets() -> None:
    with pytest.raises(InputError, match=r"0\.5.*whole number"):
        voxels_between((0, 0, 5), (0, 0, 0), (10, 10, 10))


UNIT_OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


@pytest.mark.parametrize(
    "value", ["-1,0,0;0,-1,0;0,0,-1", " -1, 0,0 ; 0,-1,0; 0,0,-1", [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], UNIT_OFFSETS]
)
def test_offsets_are_read_from_text_and_from_rows(value: object) -> None:
    assert parse_offsets(value) == UNIT_OFFSETS


@pytest.mark.parametrize("value", ["", "a,b,c", "1,0,0;", None, 3, [1, 2, 3], [[None, 0, 0]]])
def test_malformed_offsets_are_refused_with_an_example(value: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_offsets(value)
    assert repr(value) in str(caught.value)
    assert "-1,0,0;0,-1,0;0,0,-1" in str(caught.value)


@pytest.mark.parametrize("value", ["1,0", [[1, 0]], "1,0,0,0"])
def test_offsets_of_two_or_four_steps_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="three values"):
        parse_offsets(value)


def test_fractional_offsets_are_refused() -> None:
    with pytest.raises(InputError, match="offsets"):
        parse_offsets([[-1.5, 0, 0], [0, -1, 0], [0, 0, -1]])


def test_contact_channels_find_direct_neighbours_among_others() -> None:
    assert contact_channels(UNIT_OFFSETS) == (0, 1, 2)
    assert contact_channels(((0, 0, 1), (-2, 0, 0), (0, 1, 0), (0, -1, 0), (1, 0, 0))) == (4, 2, 0)


def test_a_missing_neighbour_channel_is_refused_by_its_axis() -> None:
    with pytest.raises(InputError, match=r"along y.*\(-1, 0, 0\)"):
        contact_channels(((-1, 0, 0), (0, -2, 0), (0, 0, -1)))
