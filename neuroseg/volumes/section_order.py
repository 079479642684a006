"""Order of section files: the numbers in their names -> one order, if every reading of the names gives the same."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from neuroseg.errors import InputError

_NAMED_AT_MOST = 5
_SHOWN_OF_AN_ORDER = 3
# A number with this many gaps per file is a date, a time stamp or an identifier, not a counter.
_GAPS_PER_FILE = 100
# Two whole numbers around a dot, outside longer chains (1.2.3 is a version or a date).
_DOTTED_PAIR = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?!\.?\d)")
_NUMBER = re.compile(r"\d+(?:,\d+)?")

Values = tuple[Fraction, ...]


class _Column(NamedTuple):
    """One number of the names: its value in every file, and its resolution (0.01 for two decimals)."""

    values: Values
    resolution: Fraction

    @property
    def differs_everywhere(self) -> bool:
        return len(set(self.values)) == len(self.values)

    @property
    def span(self) -> Fraction:
        return max(self.values) - min(self.values)


def sections_in_order(paths: Sequence[Path], order: str | None = None) -> list[Path]:
    """Return the files in section order.

    `order` is one of:
    None: the order on which all readings of the names agree;
    a number N: by the N-th number of the names, from 1 (a decimal is one number);
    `name`: by whole names, with their numbers sorted by value;
    `given`: the order of `paths`.

    Numbers must have no gap, except for `name` and `given`. Raises InputError if readings disagree; it lists each.
    """
    if order == "given" or (len(paths) == 1 and order is None):
        return list(paths)
    if order == "name":
        return _sorted_by(paths, [_natural(path.stem) for path in paths])
    _require_one_pattern(paths)
    columns = _columns(paths)
    chosen = _agreed(paths, columns) if order is None else _numbered(paths, columns, order)
    ordered = sorted(zip(chosen.values, paths, strict=True))
    _require_consecutive(ordered, chosen.resolution)
    return [path for _, path in ordered]


def _natural(stem: str) -> list[tuple[str, Fraction]]:
    """Return a sort key for a name: its texts, and the values of its numbers."""
    name = _marked(stem)
    numbers = [Fraction(number.replace(",", ".")) for number in _NUMBER.findall(name)]
    return list(zip(_NUMBER.split(name), [*numbers, Fraction(0)], strict=True))


def _require_one_pattern(paths: Sequence[Path]) -> None:
    patterns = sorted({_NUMBER.sub("#", _marked(path.stem)) for path in paths})
    if len(patterns) > 1:
        listed = ", ".join(patterns[:_NAMED_AT_MOST])
        raise InputError(
            f"the names of the {len(paths)} files differ in more than a section number (found {listed}; # is a "
            "number), expected the files of one stack",
            hint="give only the files of one stack; if all are one stack, list them in order and add --order given, or "
            "sort them by name with --order name",
        )


def _columns(paths: Sequence[Path]) -> list[_Column]:
    """Return the numbers of the names in order of appearance.

    Two numbers around a dot are one decimal if that is certain. All names have the same pattern, so the n-th number has
    the same meaning in each.
    """
    names = [_marked(path.stem) for path in paths]
    texts = list(zip(*(_NUMBER.findall(name) for name in names), strict=True))
    columns = []
    for column in texts:
        pairs = [text.split(",") for text in column if "," in text]
        if not pairs:
            columns.append(_whole(column))
        elif len(pairs) < len(column):
            columns.append(_decimal(column))  # 0.75, 1, 1.25: whole numbers among decimals
        else:
            columns += _decimal_or_two(paths, column)
    return columns


def _marked(stem: str) -> str:
    """Return a name with a comma only between the two numbers of a dotted pair."""
    return _DOTTED_PAIR.sub(r"\1,\2", stem.replace(",", ";"))


def _whole(texts: Sequence[str]) -> _Column:
    return _Column(tuple(Fraction(int(text)) for text in texts), Fraction(1))


def _decimal(texts: Sequence[str]) -> _Column:
    digits = max(len(text.partition(",")[2]) for text in texts)
    return _Column(tuple(Fraction(text.replace(",", ".")) for text in texts), Fraction(1, 10**digits))


def _decimal_or_two(paths: Sequence[Path], texts: Sequence[str]) -> list[_Column]:
    """Return one decimal or two whole numbers. Raises InputError if both are possible and their orders differ.

    Fractions of one width are decimals (0.75, 1.00). If widths differ, a leading zero means a decimal (1.05), and a
    final zero means a counter (1.10 after 1.9). Otherwise the reading without gaps is right.
    """
    fractions = [text.partition(",")[2] for text in texts]
    widths = [len(fraction) for fraction in fractions]
    decimal = _decimal(texts)
    two = [_whole(whole) for whole in zip(*(text.split(",") for text in texts), strict=True)]
    if len(set(widths)) == 1 or any(len(f) > 1 and f[0] == "0" for f in fractions):
        return [decimal]
    if any(len(f) > 1 and f[-1] == "0" for f in fractions):
        return two
    as_decimal = _sorted_by(paths, decimal.values)
    as_two = _sorted_by(paths, list(zip(two[0].values, two[1].values, strict=True)))
    if as_decimal == as_two:
        return [decimal]
    counts = _is_gapless(decimal), any(_is_gapless(column) for column in two)
    if counts == (True, False):
        return [decimal]
    if counts == (False, True):
        return two
    raise InputError(
        f"the numbers in the file names give two section orders: as decimals {_first_of(as_decimal)}; as two counters "
        f"{_first_of(as_two)}",
        hint="list the files in order and add --order given, or rename them",
    )


def _is_gapless(column: _Column) -> bool:
    return column.differs_everywhere and not _gaps(sorted(column.values), column.resolution)[1]


def _agreed(paths: Sequence[Path], columns: Sequence[_Column]) -> _Column:
    """Return the number that counts the sections. Raises InputError unless all readings of the names agree."""
    varying = [(place, column) for place, column in enumerate(columns, 1) if column.span]
    unique = [(place, column) for place, column in varying if column.differs_everywhere]
    if not unique:
        first, second = sorted(paths)[:2]
        raise InputError(
            f"no number in the file names differs in every section (as in {first.name}, {second.name}), expected one "
            "image per section with one counting number",
            hint="if sorting by name gives the section order, add --order name; if a section has several tiles, stitch "
            "them first; otherwise rename the files",
        )
    counting = [entry for entry in unique if not _is_sparse(entry[1])] or unique
    orders = {str(place): _sorted_by(paths, column.values) for place, column in counting}
    counters = [column for place, column in varying if not _is_sparse(column) or (place, column) in counting]
    orders["name"] = _sorted_by(paths, list(zip(*(column.values for column in counters), strict=True)))
    _require_agreement(orders)
    return min((column for _, column in counting), key=lambda column: column.span)


def _is_sparse(column: _Column) -> bool:
    gaps = _gaps(sorted(set(column.values)), column.resolution)[1]
    return gaps >= _GAPS_PER_FILE * len(column.values)


def _require_agreement(orders: dict[str, list[Path]]) -> None:
    """Raise InputError if two readings order the files differently. The hint lists one option for each order."""
    options: dict[tuple[Path, ...], str] = {}
    for option, ordered in orders.items():
        options.setdefault(tuple(ordered), option)
    if len(options) == 1:
        return
    shown = "; ".join(f"--order {option}: {_first_of(ordered)}" for ordered, option in options.items())
    raise InputError(
        f"the numbers in the file names give {len(options)} section orders, expected one",
        hint=f"choose one ({shown}; --order given: the order in which you list the files)",
    )


def _first_of(ordered: Sequence[Path]) -> str:
    more = ", ..." if len(ordered) > _SHOWN_OF_AN_ORDER else ""
    return ", ".join(path.name for path in ordered[:_SHOWN_OF_AN_ORDER]) + more


def _sorted_by(paths: Sequence[Path], keys: Sequence[object]) -> list[Path]:
    return [path for _, path in sorted(zip(keys, paths, strict=True))]


def _numbered(paths: Sequence[Path], columns: Sequence[_Column], order: str) -> _Column:
    """Return the number that the user chose. Raises InputError unless it exists and differs in every file."""
    if not order.isascii() or not order.isdecimal() or not 1 <= int(order) <= len(columns):
        numbers = f"--order N, if the N-th number of a name is the section (1 to {len(columns)}), " if columns else ""
        raise InputError(
            f"unknown --order {order} for files such as {paths[0].name}",
            hint=f"use {numbers}--order name or --order given",
        )
    column = columns[int(order) - 1]
    if not column.differs_everywhere:
        raise InputError(
            f"number {order} of the file names is the same in several files (as in {paths[0].name}), expected a number "
            "that differs in every file",
            hint="choose another number with --order, or use --order name",
        )
    return column


def _gaps(ordered: Sequence[Fraction], resolution: Fraction) -> tuple[Fraction, int]:
    """Return the step of an ordered counter, and the count of its missing numbers.

    Numbers may count by tens, which two files cannot show. Two decimals show no step, so none is missing.
    """
    differences = [upper - lower for lower, upper in itertools.pairwise(ordered)]
    if not differences:
        return resolution, 0
    if len(differences) == 1:
        step = resolution if resolution == 1 else differences[0]
    else:
        step = resolution * math.gcd(*(int(difference / resolution) for difference in differences))
    if not step:
        return resolution, 0
    return step, int((ordered[-1] - ordered[0]) / step) + 1 - len(ordered)


def _require_consecutive(ordered: Sequence[tuple[Fraction, Path]], resolution: Fraction) -> None:
    numbers = [number for number, _ in ordered]
    step, count = _gaps(numbers, resolution)
    if not count:
        return
    gaps = (
        lower + index * step
        for lower, upper in itertools.pairwise(numbers)
        for index in range(1, int((upper - lower) / step))
    )
    digits = len(str(resolution.denominator)) - 1
    listed = ", ".join(_written(number, digits) for number in itertools.islice(gaps, _NAMED_AT_MOST))
    listed += f" and {count - _NAMED_AT_MOST} more" if count > _NAMED_AT_MOST else ""
    raise InputError(
        f"section {listed} is missing between {ordered[0][1].name} and {ordered[-1][1].name} ({len(ordered)} files)",
        hint="add the missing file, or a copy of its neighbour; if no section is missing, add --order name",
    )


def _written(number: Fraction, digits: int) -> str:
    """Return a number as text with the number of decimals in the names."""
    whole, rest = divmod(int(number * 10**digits), 10**digits)
    return f"{whole}.{rest:0{digits}d}" if digits else str(whole)
