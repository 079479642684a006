"""The edge table and the table of long-range channels -> one edge table of the touching fragments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.ordering import NameIndex, distinct, row_order
from neuroseg.tables import Table, combined

_UNKNOWN = np.uint64(2**64 - 1)


def with_evidence(contacts: Table, evidence: Table, touching: Table, columns: Mapping[str, type[np.generic]]) -> Table:
    """Return `contacts` plus those rows of `evidence` whose pair of fragments (u, v) is in `touching`.

    All tables have the columns u and v. `contacts` and `evidence` also have `columns` (tables.EDGES or BINS). Rows of
    fragments that do not touch are ignored, so that every segment is connected. A link has the weight of a contact.
    """
    if not len(touching["u"]) or not len(evidence["u"]):
        return contacts
    fragments = distinct(np.concatenate([touching["u"], touching["v"]]))
    known = _pairs(evidence, fragments)
    is_touching = NameIndex(distinct(_pairs(touching, fragments))).holds(known) & (known != _UNKNOWN)
    return combined([contacts, {name: column[is_touching] for name, column in evidence.items()}], columns, row_order)


def _pairs(table: Table, fragments: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one number per pair (u, v) of fragments, `_UNKNOWN` if one of them is not in the list."""
    index = NameIndex(fragments)
    one, other = index.positions(table["u"]).astype(np.int64), index.positions(table["v"]).astype(np.int64)
    return np.where(np.minimum(one, other) < 0, _UNKNOWN, (one * len(fragments) + other).astype(np.uint64))
