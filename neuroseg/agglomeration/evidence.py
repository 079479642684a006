"""The edge table and the table of long-range channels -> one edge table of the touching fragments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from neuroseg.tables import Table, combined


def with_evidence(contacts: Table, evidence: Table, touching: Table, columns: Mapping[str, type[np.generic]]) -> Table:
    """Return `contacts` plus those rows of `evidence` whose pair of fragments (u, v) is in `touching`.

    All tables have the columns u and v. `contacts` and `evidence` also have `columns` (tables.EDGES or BINS). Rows of
    fragments that do not touch are ignored, so that every segment is connected. A link has the weight of a contact.
    """
    if not len(touching["u"]) or not len(evidence["u"]):
        return contacts
    ids = np.unique(np.concatenate([touching["u"], touching["v"]]))
    known = np.isin(evidence["u"], ids) & np.isin(evidence["v"], ids)
    known[known] = np.isin(_pairs({name: c[known] for name, c in evidence.items()}, ids), _pairs(touching, ids))
    return combined([contacts, {name: column[known] for name, column in evidence.items()}], columns)


def _pairs(table: Table, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return one number per pair (u, v) of fragments in `ids`."""
    pairs: NDArray[np.int64] = np.searchsorted(ids, table["u"]) * len(ids) + np.searchsorted(ids, table["v"])
    return pairs
