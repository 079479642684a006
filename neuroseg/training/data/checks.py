"""A look at the values of a labelled volume before anything is learnt: raw that is none and labels that are none."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from neuroseg.errors import InputError
from neuroseg.volumes.input_checks import sample_values
from neuroseg.volumes.values import Finding, is_label_like, label_findings, raw_findings
from neuroseg.volumes.volume import Volume

logger = logging.getLogger(__name__)
_ORDER = "give raw first, then the labels of its objects"


def require_raw(raw: Volume) -> None:
    """Raise InputError for raw that is not 8 bits, looks like labels or is constant; warns of few grey levels."""
    sample = sample_values(raw)
    if raw.dtype != np.uint8:
        if is_label_like(sample):
            raise InputError(f"raw {raw.path} holds {raw.dtype} values that look like labels; {_ORDER}")
        raise InputError(f"raw {raw.path} holds {raw.dtype} values; import it to uint8 first (neuroseg import)")
    _judge(f"raw {raw.path}", raw_findings(sample, None, chosen=False), _ORDER if is_label_like(sample) else None)


def require_labels(labels: Volume) -> None:
    """Raise InputError for labels that are no whole numbers, or look like an image."""
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels {labels.path} hold {labels.dtype} values; whole numbers, the ids, are expected")
    if labels.dtype.kind != "b":
        _judge(f"labels {labels.path}", label_findings(sample_values(labels)), _ORDER)


def _judge(where: str, findings: Sequence[Finding], fix: str | None) -> None:
    for finding in findings:
        text = f"{where}: {finding.problem}; {fix or finding.fix}"
        if finding.certain:
            raise InputError(text)
        logger.warning("%s", text)
