"""Check sampled values of raw and labels before training, to find files that were exchanged or are damaged."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from neuroseg.errors import InputError
from neuroseg.volumes.input_checks import sample_values
from neuroseg.volumes.values import Finding, is_label_like, label_findings, raw_findings
from neuroseg.volumes.volume import Volume

logger = logging.getLogger(__name__)
_ORDER = "check whether raw and labels are exchanged"


def require_raw(raw: Volume) -> None:
    """Raise InputError for raw that is not uint8, looks like labels or is constant. Warn about few grey levels."""
    sample = sample_values(raw)
    if raw.dtype != np.uint8:
        if is_label_like(sample):
            raise InputError(f"raw {raw.path} contains {raw.dtype} values that look like labels", hint=_ORDER)
        raise InputError(
            f"raw {raw.path} contains {raw.dtype} values, expected uint8", hint="convert it with neuroseg import"
        )
    _report(f"raw {raw.path}", raw_findings(sample, None, chosen=False), _ORDER if is_label_like(sample) else None)


def require_labels(labels: Volume) -> None:
    """Raise InputError for labels that are not integers or look like an image."""
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels {labels.path} contain {labels.dtype} values, expected integer ids")
    if labels.dtype.kind != "b":
        _report(f"labels {labels.path}", label_findings(sample_values(labels)), _ORDER)


def _report(where: str, findings: Sequence[Finding], fix: str | None) -> None:
    for finding in findings:
        advice = fix or finding.fix
        if finding.certain:
            raise InputError(f"{where}: {finding.problem}", hint=advice)
        logger.warning("%s: %s; %s", where, finding.problem, advice)
