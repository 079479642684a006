"""Self-test before a training: whether this CPU computes correct gradients in bfloat16. Runs in a separate process.

Torch 2.13 (its library oneDNN) has a fault on CPUs with matrix units (AMX): the backward pass of a convolution in
bfloat16 writes past its memory if a feature map has few sections of many voxels. A training then crashes, hangs, or
continues with gradients of the weights that are off by 30 % of the largest. Some 3 x 3 x 3 convolutions of a single
section are also wrong in the forward pass. The affected shapes depend on the number of threads. Each layer is therefore
tested against float32. Prediction is not tested: no layer was wrong with the windows of a prediction.
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
# All wrong gradients so far were in maps of more than 3000 voxels per section, and no map is larger than the patch.
# Trainings with small patches skip the test.
_LEAST_SECTION_VOXELS = 1024
# Error as a share of the largest value: rounding to bfloat16 gives 0.005, the fault gave 0.24 to 0.32.
_LARGEST_ERROR = 0.03
# Signals sent by others. They are not caused by the computation.
_EXTERNAL_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Time limit of the backward pass, as a multiple of the forward pass. It usually takes two to three times as long.
_LIMIT_FACTOR, _LEAST_LIMIT_S, _MOST_S = 30, 30, 3600
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
    """Raise InputError if a step with this batch gives wrong values, crashes or hangs on this CPU.

    Runs one step of a new network with the number of threads of this process. Takes 5 to 60 seconds for the light and
    the superhuman network. Skipped on GPUs, in float32, and for patches with small sections. A test that fails for
    another reason is only logged.
    """
    _, height, width = patch_voxels
    if device.type != "cpu" or precision != "bfloat16" or height * width < _LEAST_SECTION_VOXELS:
        return
    request = {
        "architecture": architecture, "parameters": dict(parameters), "batch": batch,
        "patch_voxels": list(patch_voxels), "threads": torch.get_num_threads(),
    }  # fmt: skip
    logger.info("testing whether this CPU computes correct gradients in bfloat16 (up to a minute)")
    ended = subprocess.run(_COMMAND, input=json.dumps(request), capture_output=True, text=True, check=False)
    fault = _fault(ended)
    if fault is not None:
        raise InputError(
            f"bfloat16 fails on this CPU with patches of {' x '.join(map(str, patch_voxels))} voxels: {fault}. This is "
            f"a fault of torch {torch.__version__}",
            hint="train in float32 (optimiser.precision: float32, or adapt --precision float32), or use patches with "
            "more sections",
        )


def _fault(ended: subprocess.CompletedProcess[str]) -> str | None:
    """Return the fault found by a test, or None. Log a test that failed for another reason."""
    if ended.returncode == -signal.SIGALRM:
        return "a step hangs"
    if ended.returncode < 0 and -ended.returncode not in _EXTERNAL_SIGNALS:
        return f"a step crashes ({signal.Signals(-ended.returncode).name})"
    try:
        # The library may print before the result.
        errors: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        output = ended.stderr.strip()[-500:] or "no error output"
        logger.warning("cannot test bfloat16 on this CPU (exit %d): %s", ended.returncode, output)
        return None
    worst = max(errors, key=lambda what: (math.isnan(errors[what]), errors[what]))
    if math.isnan(errors[worst]):
        return f"{worst} are NaN"
    return f"{worst} are off by {errors[worst]:.0%} of the largest" if errors[worst] > _LARGEST_ERROR else None


def step_errors(
    network: nn.Module, raw: torch.Tensor, *, limit: Callable[[int], object] = lambda seconds: None
) -> dict[str, float]:
    """Return the errors of the values and gradients of each convolution in bfloat16, as a share of the largest value.

    `raw`: float32 crops `(n, channels, z, y, x)`. Each layer is recomputed in float32 from the same input features and
    the same gradients of its output. Gradients are of features, weights and biases. An error is NaN if a value is not a
    number. `limit` is called before each part with its time limit in seconds.
    """
    kept: dict[str, _Recorded] = {}
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, _CONVOLUTIONS)}
    hooks = [hook for name, layer in layers.items() for hook in _watch(layer, kept.setdefault(name, _Recorded()))]
    limit(_MOST_S)
    began = time.monotonic()
    found = predicted(network, raw, "bfloat16")
    limit(_LEAST_LIMIT_S + math.ceil(_LIMIT_FACTOR * (time.monotonic() - began)))
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
class _Recorded:
    """Input and output of a layer, and their gradients. The gradient of the input is that through this layer only."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def keep(self, name: str, tensor: torch.Tensor) -> None:
        self.tensors[name] = tensor.detach()
        if tensor.requires_grad:
            tensor.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self.tensors.__setitem__(f"gradient of {name}", gradient.detach())
            )


def _watch(layer: nn.Module, kept: _Recorded) -> list[Any]:
    def before(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        # A view: other layers may use the features, and their gradients must not be included.
        features = inputs[0].view_as(inputs[0])
        kept.keep("features", features)
        return (features,)

    def after(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        kept.keep("returned", output)

    return [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]


def _errors(layer: nn.Module, kept: _Recorded) -> tuple[float, float]:
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


def _main() -> None:
    """Run the test described on standard input and print the errors. A crash ends only this process."""
    # The default action of the alarm ends this process if a step hangs. The calling process may have changed it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    request = json.load(sys.stdin)
    torch.manual_seed(0)
    torch.set_num_threads(request["threads"])
    network = build_network(request["architecture"], request["parameters"])
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    raw = torch.rand(request["batch"], 1, *request["patch_voxels"])
    print(json.dumps(step_errors(network, raw, limit=signal.alarm)))


if __name__ == "__main__":
    _main()
