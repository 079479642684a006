"""Whether a CPU's gradients in bfloat16 are right: tried out before a training, in a process of its own.

Torch 2.13 (its library, oneDNN) writes past its memory in the backward pass of convolutions in bfloat16 on CPUs with
matrix units (AMX) where a feature map has few sections of many voxels: a training then dies, stands still, or goes on
with gradients of the weights that are off by 30 % of the largest. Which shapes do depends on the number of threads, so
they are not listed but tried, layer by layer, against float32; with them the values that they come of, wrong in some
3 x 3 x 3 convolutions of a single section.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neuroseg.errors import InputError
from neuroseg.geometry import Triple
from neuroseg.networks.architectures import build_network
from neuroseg.training.settings import Precision

logger = logging.getLogger(__name__)
_COMMAND = [sys.executable, "-P", "-m", "neuroseg.training.gradients"]
# All gradients that were seen to be wrong were of sections of more than 3000 voxels; small trainings wait for no trial.
_LEAST_SECTION_VOXELS = 1024
# Rounding to bfloat16 makes 0.005 of the largest, the fault made 0.24 to 0.32.
_LARGEST_ERROR = 0.03
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGALRM)
# The way back takes two to three times as long as the way there.
_PATIENCE, _LEAST_PATIENCE_S = 30, 30
_CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)


def require_right_gradients(
    architecture: str,
    parameters: Mapping[str, Any],
    *,
    batch: int,
    patch_voxels: Triple,
    device: torch.device,
    precision: Precision,
) -> None:
    """Raise InputError when a step of this batch would get values or gradients wrong, crash or hang on this CPU.

    Takes seconds: one step of a network as it begins, with as many threads as this process has. Nothing is tried on a
    GPU, in float32, and with patches of small sections.
    """
    _, height, width = patch_voxels
    if device.type != "cpu" or precision != "bfloat16" or height * width < _LEAST_SECTION_VOXELS:
        return
    wanted = {
        "architecture": architecture, "parameters": dict(parameters), "batch": batch,
        "patch_voxels": list(patch_voxels), "threads": torch.get_num_threads(),
    }  # fmt: skip
    logger.info("trying whether this CPU's gradients in bfloat16 are right (seconds to a minute)")
    ended = subprocess.run(_COMMAND, input=json.dumps(wanted), capture_output=True, text=True, check=False)
    if -ended.returncode in _CRASHES:
        name = signal.Signals(-ended.returncode).name
        raise _refusal(patch_voxels, "never end" if name == "SIGALRM" else f"end the process ({name})")
    if ended.returncode:
        logger.warning(
            "could not try whether gradients in bfloat16 are right on this CPU (exit code %d): %s",
            ended.returncode, ended.stderr.strip()[-500:] or "it said nothing",
        )  # fmt: skip
        return
    errors: dict[str, float] = json.loads(ended.stdout)
    worst = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    # So written, what is not a number is refused as well.
    if not errors[worst] <= _LARGEST_ERROR:
        raise _refusal(patch_voxels, f"are wrong: in layer {worst} by {errors[worst]:.0%} of the largest")


def _refusal(patch_voxels: Triple, found: str) -> InputError:
    return InputError(
        f"gradients in bfloat16 {found}, on this CPU, with patches of {' x '.join(map(str, patch_voxels))} voxels: a "
        f"fault of torch {torch.__version__}. Compute in float32 (optimiser.precision: float32; adapt --precision "
        "float32), or take patches of more sections"
    )


def gradient_errors(
    network: nn.Module, raw: torch.Tensor, *, limit: Callable[[int], object] = lambda seconds: None
) -> dict[str, float]:
    """Return each convolution's error in bfloat16, of its values or its weights' gradients, as a share of the largest.

    `raw`: float32 crops `(n, channels, z, y, x)`. Each layer is judged by itself: what it makes, in float32, of the
    same features and the same gradients of what it returned. NaN where something is not a number. `limit` is told how
    many seconds the way back may take before it sets out, and 0 when it has come.
    """
    kept: dict[str, _Kept] = {}
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, _CONVOLUTIONS)}
    hooks = [layer.register_forward_hook(_keep(kept, name)) for name, layer in layers.items()]
    began = time.monotonic()
    with torch.autocast(raw.device.type, torch.bfloat16):
        found = network(raw.contiguous(memory_format=torch.channels_last_3d))
    limit(_LEAST_PATIENCE_S + math.ceil(_PATIENCE * (time.monotonic() - began)))
    found.backward(torch.randn(found.shape, generator=torch.Generator().manual_seed(0)).to(found.dtype))
    limit(0)
    for hook in hooks:
        hook.remove()
    return {name: _error(layer, kept[name]) for name, layer in layers.items()}


@dataclass
class _Kept:
    """What a layer was given and returned, and, on the way back, the gradient of what it returned."""

    features: torch.Tensor
    returned: torch.Tensor
    passed_back: torch.Tensor | None = None


def _keep(kept: dict[str, _Kept], name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
    def keep(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        record = kept[name] = _Kept(inputs[0].detach(), output.detach())
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: setattr(record, "passed_back", gradient.detach())
        )

    return keep


def _error(layer: nn.Module, kept: _Kept) -> float:
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]
    assert kept.passed_back is not None
    assert weight.grad is not None
    right = layer(kept.features.float())
    (gradient,) = torch.autograd.grad(right, weight, kept.passed_back.float())
    errors = [_share(kept.returned.float(), right.detach()), _share(weight.grad, gradient)]
    return float(torch.stack(errors).max())  # NaN if one is


def _share(found: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (found - right).abs().max() / right.abs().max().clamp_min(torch.finfo(torch.float32).tiny)


def _answer() -> None:
    """Try what standard input asks for and print the errors: a fault of the library ends this process alone."""
    asked = json.load(sys.stdin)
    torch.manual_seed(0)
    torch.set_num_threads(asked["threads"])
    network = build_network(asked["architecture"], asked["parameters"])
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    raw = torch.rand(asked["batch"], 1, *asked["patch_voxels"])
    # Nothing handles the alarm: it ends a process that would spin for ever.
    print(json.dumps(gradient_errors(network, raw, limit=signal.alarm)))


if __name__ == "__main__":
    _answer()
