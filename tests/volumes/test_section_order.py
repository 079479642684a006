"""Order of section files by their names: numbers, decimals, clock times and several counters."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.errors import InputError
from neuroseg.volumes.section_order import sections_in_order


def ordered(names: list[str], order: str | None = None) -> list[str]:
    """Return the names in section order."""
    return [path.name for path in sections_in_order([Path("folder") / name for name in names], order)]


@pytest.mark.parametrize(
    "names",
    [
        ["s8.tif", "s9.tif", "s10.tif"],
        ["z0.75um.tif", "z1.00um.tif", "z1.25um.tif", "z1.50um.tif"],
        ["z0.75um.tif", "z1.00um.tif"],
        ["z0.5.tif", "z1.0.tif", "z1.5.tif"],
        ["z0.25.tif", "z0.5.tif", "z0.75.tif", "z1.0.tif"],
        ["z1.05.tif", "z1.1.tif", "z1.15.tif"],
        ["z0.5um.tif", "z0.75um.tif", "z1um.tif", "z1.25um.tif"],
        ["run1.8.tif", "run1.9.tif", "run1.10.tif", "run1.11.tif"],
        ["stack.0001.tif", "stack.0002.tif"],
        ["v1.2.3_s1.tif", "v1.2.3_s2.tif"],
        ["em4_20240105_s1.tif", "em4_20231224_s2.tif", "em4_20240301_s3.tif"],
        ["em_20240105_s1.tif", "em_20240105_s2.tif", "em_20231224_s3.tif"],
        ["w1_s001.tif", "w1_s002.tif", "w2_s003.tif", "w2_s004.tif"],
        ["s1_of_3.tif", "s2_of_3.tif", "s3_of_3.tif"],
    ],
)
def test_one_order_is_found_from_any_listing(names: list[str]) -> None:
    for listing in itertools.permutations(names):
        assert ordered(list(listing)) == names


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (
            ["pos3_sec001.tif", "pos1_sec002.tif"],
            ["--order 1: pos1_sec002.tif, pos3", "--order 2: pos3_sec001.tif, pos1"],
        ),
        (["12-45.tif", "13-30.tif"], ["--order 1: 12-45.tif, 13-30.tif", "--order 2: 13-30.tif, 12-45.tif"]),
        (["12-45.tif", "12-50.tif", "13-10.tif"], ["--order 2: 13-10.tif", "--order name: 12-45.tif"]),
        (["a2_s1.tif", "a2_s2.tif", "a1_s3.tif"], ["--order 2: a2_s1.tif", "--order name: a1_s3.tif"]),
        (["9.59.58.tif", "10.00.02.tif", "10.01.01.tif"], ["--order 3", "--order name"]),
    ],
)
def test_readings_that_disagree_are_refused_and_listed(names: list[str], shown: list[str]) -> None:
    for listing in itertools.permutations(names):
        with pytest.raises(InputError, match="section orders, expected one\\nhint: choose one") as error:
            ordered(list(listing))
        for text in [*shown, "--order given"]:
            assert text in str(error.value)


def test_ambiguous_decimals_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"as decimals s1\.12\.tif, s1\.7.*as two counters s1\.7\.tif, s1\.12.*\nhint: .*given"
    ):
        ordered(["s1.7.tif", "s1.12.tif", "s1.91.tif"])


def test_the_user_chooses_the_order() -> None:
    names = ["pos3_sec001.tif", "pos2_sec002.tif", "pos1_sec003.tif"]
    assert ordered(names, "2") == names
    assert ordered(names, "1") == names[::-1]
    assert ordered(names, "name") == names[::-1]
    assert ordered([names[1], names[2], names[0]], "given") == [names[1], names[2], names[0]]
    assert ordered(["b2.tif", "a.tif", "b10.tif", "b.tif"], "name") == ["a.tif", "b.tif", "b2.tif", "b10.tif"]
    assert ordered(["b.tif", "a.tif"], "given") == ["b.tif", "a.tif"]
    assert ordered(["12-50.tif", "12-45.tif", "13-10.tif"], "name") == ["12-45.tif", "12-50.tif", "13-10.tif"]


def test_a_decimal_is_one_number_for_the_option() -> None:
    assert ordered(["t9_z1.0.tif", "t8_z1.5.tif", "t7_z2.0.tif"], "2") == ["t9_z1.0.tif", "t8_z1.5.tif", "t7_z2.0.tif"]


@pytest.mark.parametrize("order", ["0", "3", "-1", "size", "²", ""])
def test_an_unknown_order_is_refused(order: str) -> None:
    with pytest.raises(InputError, match=r"files such as a1_s1\.tif\nhint: use .*1 to 2"):
        ordered(["a1_s1.tif", "a2_s2.tif"], order)


def test_a_chosen_number_that_repeats_is_refused() -> None:
    with pytest.raises(InputError, match="number 1 of the file names is the same in several files"):
        ordered(["a1_s1.tif", "a1_s2.tif"], "1")


@pytest.mark.parametrize(
    ("names", "order", "missing"),
    [
        (["z0.75.tif", "z1.00.tif", "z1.50.tif"], None, r"section 1\.25 is missing between z0\.75"),
        (["z0.1.tif", "z0.2.tif", "z0.4.tif", "z0.7.tif"], None, r"section 0\.3, 0\.5, 0\.6 is"),
        (["pos3_s1.tif", "pos2_s2.tif", "pos1_s4.tif"], "2", "section 3 is"),
        (["s1_t10.tif", "s2_t20.tif", "s4_t30.tif"], None, "section 3 is"),
    ],
)
def test_missing_sections_are_named(names: list[str], order: str | None, missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        ordered(names, order)


def test_numbers_beyond_a_float_stay_exact() -> None:
    with pytest.raises(InputError, match="section 9007199254740993 is missing"):
        ordered(["s9007199254740991.tif", "s9007199254740992.tif", "s9007199254740994.tif"])


@given(st.data(), st.sampled_from(["{}", "{:03d}", "a7_{:02d}", "{}_of_9", "z{}.50um", "2024-01-05 z{}"]))
def test_a_counter_alone_orders_every_listing(data: st.DataObject, template: str) -> None:
    first, count = data.draw(st.integers(0, 20)), data.draw(st.integers(1, 12))
    names = [template.format(number) + ".tif" for number in range(first, first + count)]
    assert ordered(data.draw(st.permutations(names))) == names


GRAMMARS = ["{a}_{b}", "{a}.{b}", "{a}.{b:02d}", "p{a}_s{b:02d}_v7", "{a}-{b}"]


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_small_names_of_two_numbers_are_ordered_as_every_reading_has_it(grammar: str) -> None:
    pairs = list(itertools.product(range(1, 4), (1, 2, 3, 10)))
    for chosen in itertools.combinations(pairs, 3):
        names = [grammar.format(a=a, b=b) + ".tif" for a, b in chosen]
        found = []
        for listing in (names, names[::-1]):
            try:
                found.append(ordered(listing))
            except InputError as error:
                found.append([str(error)])
        assert found[0] == found[1]
        if len(found[0]) == 1:
            continue
        firsts, seconds = zip(*chosen, strict=True)
        by_name = [names[place] for place in sorted(range(3), key=lambda place: chosen[place])]
        if grammar != "{a}.{b:02d}":
            assert found[0] == by_name or len(set(firsts)) == 1
        if "." not in grammar:
            for values in (firsts, seconds):
                if len(set(values)) == 3:
                    assert found[0] == [names[place] for place in sorted(range(3), key=values.__getitem__)]
        decimals = [float(f"{a}.{b:02d}") for a, b in chosen]
        if grammar == "{a}.{b:02d}":
            assert found[0] == [names[place] for place in sorted(range(3), key=decimals.__getitem__)]


@given(st.data())
def test_two_counters_are_ordered_only_where_both_agree(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 6))
    other = data.draw(st.permutations(range(1, count + 1)))
    names = [f"p{left}_s{right:02d}.tif" for right, left in enumerate(other, 1)]
    listing = data.draw(st.permutations(names))
    if list(other) == sorted(other):
        assert ordered(listing) == names
    else:
        with pytest.raises(InputError, match="choose one"):
            ordered(listing)
        assert ordered(listing, "2") == names
        assert ordered(listing, "1") == sorted(names)
