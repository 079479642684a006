"""Whether a CPU computes a training's steps in bfloat16 rightly: tried out before it, in a process of its own.

Torch 2.13 (its library, oneDNN) writes past its memory in the backward pass of convolutions in bfloat16 on CPUs with
matrix units (AMX) where a feature map has few sections of many voxels: a training then dies, stands still, or goes on
with gradients of the weights that are off by 30 % of the largest. Some 3 x 3 x 3 convolutions of a single section are
wrong on the way there. Which shapes are depends on the number of threads, so they are not listed but tried, layer by
layer, against float32. Prediction is not tried: with the windows of a prediction no layer was seen to be wrong.
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
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from neuroseg.errors import InputError
from neuroseg.geometry import Triple
from neuroseg.networks.architectures import build_network
from neuroseg.training.learning.precision import predicted
from neuroseg.training.settings import Precision

logger = logging.getLogger(__name__)
_COMMAND = [sys.executable, "-P", "-m", "neuroseg.training.learning.gradients"]
# All gradients that were seen to be wrong were of maps of more than 3000 voxels a section, and no map has more than the
# patch; small trainings wait for no trial.
_LEAST_SECTION_VOXELS = 1024
# Rounding to bfloat16 makes 0.005 of the largest, the fault made 0.24 to 0.32.
_LARGEST_ERROR = 0.03
# Others end a process from outside: no fault of what it computes.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# The way back takes two to three times as long as the way there.
_PATIENCE, _LEAST_PATIENCE_S, _MOST_S = 30, 30, 3600
_CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)


def require_correct_gradients(
    architecture: str,
    parameters: Mapping[str, Any],
    *,
    batch: int,
    patch_voxels: Triple,
    device: torch.device,
    precision: Precision,
) -> None:
    """Raise InputError when a step of this batch would compute something wrong, crash or hang on this CPU.

    Takes 5 to 60 seconds for the light and the superhuman network: one step of a network as it begins, with as many
    threads as this process has. Nothing is tried on a GPU, in float32, and with patches of small sections. A trial that
    fails for another reason is logged and forbids nothing.
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
    fault = _fault(ended)
    if fault is not None:
        raise InputError(
            f"bfloat16 fails on this CPU with patches of {' x '.join(map(str, patch_voxels))} voxels: {fault}; a fault "
            f"of torch {torch.__version__}. Compute in float32 (optimiser.precision: float32; adapt --precision "
            "float32), or take patches of more sections"
        )


def _fault(ended: subprocess.CompletedProcess[str]) -> str | None:
    """Return what is wrong according to a trial, None for nothing; logs what ended it otherwise."""
    if ended.returncode == -signal.SIGALRM:
        return "a step never ends"
    if ended.returncode < 0 and -ended.returncode not in _FROM_OUTSIDE:
        return f"a step ends the process ({signal.Signals(-ended.returncode).name})"
    try:
        # The library may have printed before.
        errors: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        told = ended.stderr.strip()[-500:] or "it said nothing"
        logger.warning("could not try whether bfloat16 is right on this CPU (exit %d): %s", ended.returncode, told)
        return None
    worst = max(errors, key=lambda what: (math.isnan(errors[what]), errors[what]))
    if math.isnan(errors[worst]):
        return f"{worst} are not numbers"
    return f"{worst} are off by {errors[worst]:.0%} of the largest" if errors[worst] > _LARGEST_ERROR else None


def step_errors(
    network: nn.Module, raw: torch.Tensor, *, limit: Callable[[int], object] = lambda seconds: None
) -> dict[str, float]:
    """Return the error of each convolution's values and gradients in bfloat16, as a share of the largest of them.

    `raw`: float32 crops `(n, channels, z, y, x)`. Each layer is judged by itself: what it makes, in float32, of the
    same features and the same gradients of what it returned. Gradients are those of features, weights and biases. NaN
    where something is not a number. `limit` is told how many seconds each part may take before it begins.
    """
    kept: dict[str, _Kept] = {}
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, _CONVOLUTIONS)}
    hooks = [hook for name, layer in layers.items() for hook in _watch(layer, kept.setdefault(name, _Kept()))]
    limit(_MOST_S)
    began = time.monotonic()
    found = predicted(network, raw, "bfloat16")
    limit(_LEAST_PATIENCE_S + math.ceil(_PATIENCE * (time.monotonic() - began)))
    gradient = torch.randn(found.shape, generator=torch.Generator().manual_seed(0)).to(found.dtype)
    found.backward(gradient)  # type: ignore[no-untyped-call]
    limit(_MOST_S)
    for hook in hooks:
        hook.remove()
    errors: dict[str, float] = {}
    for name, layer in layers.items():
        values, gradients = _errors(layer, kept.pop(name))
        errors |= {f"values of {name}": values, f"gradients of {name}": gradients}
    return errors


@dataclass
class _Kept:
    """What a layer was given and returned, and the gradients of both: of what it was given, that through it alone."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def keep(self, name: str, tensor: torch.Tensor) -> None:
        self.tensors[name] = tensor.detach()
        if tensor.requires_grad:
            tensor.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self.tensors.__setitem__(f"gradient of {name}", gradient.detach())
            )


def _watch(layer: nn.Module, kept: _Kept) -> list[Any]:
    def before(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        # A view: features may go elsewhere as well.
        features = inputs[0].view_as(inputs[0])
        kept.keep("features", features)
        return (features,)

    def after(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        kept.keep("returned", output)

    return [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]


def _errors(layer: nn.Module, kept: _Kept) -> tuple[float, float]:
    tensors = kept.tensors
    features = tensors["features"].float().requires_grad_()
    parameters = list(layer.parameters())
    right = layer(features)
    wanted = torch.autograd.grad(right, (features, *parameters), tensors["gradient of returned"].float())
    gradients = (tensors.get("gradient of features", wanted[0]), *(each.grad for each in parameters))
    shares = [_share(found, exact) for found, exact in zip(gradients, wanted, strict=True)]
    return float(_share(tensors["returned"], right.detach())), float(torch.stack(shares).max())  # NaN if one is


def _share(found: torch.Tensor | None, right: torch.Tensor) -> torch.Tensor:
    assert found is not None
    return (found.float() - right).abs().max() / right.abs().max().clamp_min(torch.finfo(torch.float32).tiny)


def _answer() -> None:
    """Try what standard input asks for and print the errors: a fault of the library ends this process alone."""
    # Nothing handles the alarm: it ends a process that would spin for ever, whatever the calling one did with it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    asked = json.load(sys.stdin)
    torch.manual_seed(0)
    torch.set_num_threads(asked["threads"])
    network = build_network(asked["architecture"], asked["parameters"])
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    raw = torch.rand(asked["batch"], 1, *asked["patch_voxels"])
    print(json.dumps(step_errors(network, raw, limit=signal.alarm)))


if __name__ == "__main__":
    _answer()
