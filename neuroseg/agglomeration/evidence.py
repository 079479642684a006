"""The edge table and what long-range channels say -> one edge table of the fragments that touch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from neuroseg.tables import Table, combined


def with_evidence(contacts: Table, evidence: Table, touching: Table, columns: Mapping[str, type[np.generic]]) -> Table:
    """Return `contacts` with the rows of `evidence` added whose pair of fragments (u, v) is one of `touching`.

    All have the columns u and v, and the first two `columns` (tables.EDGES or BINS). Fragments that do not touch keep
    apart whatever a long-range channel says of them, so that every segment is connected. Links count like contacts.
    """
    if not len(touching["u"]) or not len(evidence["u"]):
        return contacts
    ids = np.unique(np.concatenate([touching["u"], touching["v"]]))
    known = np.isin(evidence["u"], ids) & np.isin(evidence["v"], ids)
    known[known] = np.isin(_pairs({name: c[known] for name, c in evidence.items()}, ids), _pairs(touching, ids))
    return combined([contacts, {name: column[known] for name, column in evidence.items()}], columns)


def _pairs(table: Table, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
    """One number per pair (u, v) of fragments that `ids` lists."""
    pairs: NDArray[np.int64] = np.searchsorted(ids, table["u"]) * len(ids) + np.searchsorted(ids, table["v"])
    return pairs
