"""The device of a prediction as the head plans it: its name, and the properties that each worker must find."""

from __future__ import annotations

from neuroseg.affinities.device import choose_device, device_identity, gpu_identity
from neuroseg.affinities.gpus import listed_gpus
from neuroseg.errors import InputError

# Precision required on GPUs of other machines. A GPU without it would give different bytes.
_REMOTE_PRECISION = "bfloat16"


def local_device(name: str) -> tuple[str, dict[str, str]]:
    """Return name and identity of a device of this machine, without initialising CUDA.

    `auto` is the GPU if there is one. Raises InputError if this machine does not have the device.
    """
    device = choose_device(name)
    if device.type == "cpu":
        return "cpu", device_identity(device)
    return str(device), gpu_identity(listed_gpus()[device.index or 0].precision)


def remote_device(name: str, gpus: int) -> tuple[str, dict[str, str]]:
    """Return name and required identity of the device on the machines that will predict, whose jobs request `gpus`.

    `auto` is the GPU if jobs request one. A CPU must equal that of this machine, and a GPU must support bfloat16. The
    first worker records what is known only there, such as the kind of GPU. A worker on another device fails, see
    `require_device`. Raises InputError if the name is invalid, or if jobs request another device.
    """
    kind = name.split(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {name!r} is not supported (valid: auto, cpu, cuda, cuda:N)")
    if kind == "cuda" and not gpus:
        raise InputError(
            f"the device is {name}, but jobs of stage affinities request no GPU",
            hint="add `stages: {affinities: {gpus: 1}}` to the cluster file (--cluster), or use --device cpu",
        )
    if kind == "cpu" and gpus:
        raise InputError(
            f"the device is {name}, but jobs of stage affinities request {gpus} GPU{'' if gpus == 1 else 's'}",
            hint="set `stages: {affinities: {gpus: 0}}` in the cluster file, or use --device cuda",
        )
    if gpus:
        return "cuda" if kind == "auto" else name, gpu_identity(_REMOTE_PRECISION)
    return "cpu", device_identity(choose_device("cpu"))
