"""Numbers and units of length in files -> floats and nanometres. None if they cannot be read with certainty."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

_PREFIXES = {
    "yotta": 1e24, "zetta": 1e21, "exa": 1e18, "peta": 1e15, "tera": 1e12, "giga": 1e9, "mega": 1e6, "kilo": 1e3,
    "hecto": 1e2, "deca": 1e1, "": 1.0, "deci": 1e-1, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9,
    "pico": 1e-12, "femto": 1e-15, "atto": 1e-18, "zepto": 1e-21, "yocto": 1e-24,
}  # fmt: skip
# Metres per symbol. Case matters: mm and Mm differ. Micro and angstrom have two code points each.
_SYMBOLS = {
    "m": 1.0, "km": 1e3, "dm": 1e-1, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "\u00b5m": 1e-6, "\u03bcm": 1e-6,
    "nm": 1e-9, "pm": 1e-12, "fm": 1e-15, "\u00c5": 1e-10, "\u212b": 1e-10, "A": 1e-10, "\u00b5": 1e-6, "\u03bc": 1e-6,
}  # fmt: skip
_WORDS = {
    **{prefix + word: factor for prefix, factor in _PREFIXES.items() for word in ("meter", "metre")},
    "micron": 1e-6, "angstrom": 1e-10,
}  # fmt: skip
_NANOMETRES_PER_METRE = 1e9


def nanometres_per(unit: object) -> float | None:
    """Return the nanometres in a unit of length. None for `pixel`, an empty unit and anything else."""
    text = plain_text(unit).strip()
    lower = text.lower()
    metres = _SYMBOLS.get(text, _WORDS.get(lower, _WORDS.get(lower.removesuffix("s"))))
    if metres is None and lower in ("nm", "um"):
        metres = _SYMBOLS[lower]
    # 1e-9 * 1e9 is not exactly 1: round to 12 digits.
    return None if metres is None else float(f"{metres * _NANOMETRES_PER_METRE:.12g}")


def plain_text(value: object) -> str:
    """Return a string or bytes attribute as text, also from a scalar array. Empty for anything else."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def listed(value: object) -> list[Any] | None:
    """Return an attribute with one entry per axis as a list. None for any other attribute.

    Accepts lists, arrays of one dimension, and text (str or bytes) such as `40,4,4`, `40 4 4` or `[40, 4, 4]`.
    """
    text = plain_text(value).strip()
    if text:
        return _listed_in_text(text)
    if isinstance(value, np.ndarray):
        return list(value.tolist()) if value.ndim == 1 else None
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else None


def _listed_in_text(text: str) -> list[Any] | None:
    if text[0] == "[":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            return found
    parts = text.strip("[]()").replace(",", " ").replace(";", " ").split()
    return [part.strip("'\"") for part in parts] or None


def number(value: object) -> float | None:
    """Return a number, or text of a number, as a float, which may be nan or infinite. None for anything else."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return float(plain_text(value) or value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
