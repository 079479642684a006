"""The training loop: takes steps, logs, validates and saves."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from neuroseg.execution.ending import slow_to_end
from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.records import Records
from neuroseg.training.pretraining_settings import PretrainingSettings
from neuroseg.training.settings import TrainingSettings

_LOG_EVERY_STEPS = 20


class Learner(Protocol):
    """The state that the loop trains: it takes batches, counts steps and saves itself."""

    settings: Any
    folder: Path
    group: ProcessGroup
    network: Any
    device: torch.device
    step: int
    validated: int

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Take one step and return the parts of the loss."""
        ...

    def save(self) -> None:
        """Write a checkpoint."""
        ...

    def pictures(self) -> dict[str, torch.Tensor]:
        """Return pictures `(channels, y, x)` in [0, 1] of the last step. Empty before the first step."""
        ...


def batches(
    samples: Any, settings: TrainingSettings | PretrainingSettings, *, device: torch.device
) -> Generator[dict[str, torch.Tensor], None, None]:
    """Yield batches of tensors in the order of the samples. `loader_workers` processes prepare them.

    The tensors are in CPU memory. For a GPU the memory is pinned, so that copies do not block.
    """
    loader: Any = DataLoader(
        samples,
        batch_size=settings.optimiser.batch,
        num_workers=settings.loader_workers,
        worker_init_fn=_begin_worker,
        prefetch_factor=4 if settings.loader_workers else None,
        pin_memory=device.type == "cuda",
    )
    before = set(multiprocessing.active_children())
    try:
        # Not bound to a name: the iterator must be deleted before its processes are killed.
        yield from _started(loader, device)
    finally:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()  # they ignore SIGTERM, see _begin_worker


def _started(loader: Any, device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
    """Return the iterator of a loader. Memory is pinned for the GPU that is current when it starts."""
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        return iter(loader)


def _begin_worker(worker: int) -> None:
    """Compute with one thread and ignore signals. The training process handles Ctrl-C: it saves, then ends workers."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def run_training(
    learner: Learner, samples: Any, validate: Callable[[int], dict[str, float]], *, progress: bool = True
) -> None:
    """Train until the last step. Save and validate every `validation.every_steps` steps.

    `validate(step)` returns named numbers to log. After Ctrl-C (or SIGTERM, which the command line turns into it), the
    current step is completed and saved, then KeyboardInterrupt is raised.
    """
    settings, group = learner.settings, learner.group
    last, every = settings.optimiser.steps, settings.validation.every_steps
    records = Records(learner.folder) if group.is_first else None
    bar = tqdm(total=last, initial=learner.step, unit="step", disable=not (progress and group.is_first), mininterval=5)
    try:
        with slow_to_end(), _Interrupts() as interrupts:
            due = learner.step > 0 and (learner.step % every == 0 or learner.step == last)
            if due and learner.step != learner.validated:
                _validate(learner, validate, records, interrupts)  # the last validation was interrupted
            for step in _steps(learner, samples, records, bar, interrupts):
                if step % every == 0 or step == last:
                    _validate(learner, validate, records, interrupts)
    finally:
        bar.close()
        if records is not None:
            records.close()


def is_over(learner: Learner) -> bool:
    """Return whether the last step is taken and validated."""
    last: int = learner.settings.optimiser.steps
    return learner.step >= last == learner.validated


def _validate(
    learner: Learner, validate: Callable[[int], dict[str, float]], records: Records | None, interrupts: _Interrupts
) -> None:
    """Save, validate, and save the validated step. Ctrl-C interrupts the validation immediately; no step is lost."""
    if records is not None:
        learner.save()
        with interrupts.immediate():
            scores = validate(learner.step)
        learner.validated = learner.step
        records.write(learner.step, {f"validation/{name}": value for name, value in scores.items()})
        records.show(learner.step, learner.pictures())
        learner.save()
    learner.validated = learner.step
    learner.group.wait()


def _steps(learner: Learner, samples: Any, records: Records | None, bar: Any, interrupts: _Interrupts) -> Iterator[int]:
    """Take and log the remaining steps, and yield the number of each. Save before an interrupt is raised."""
    settings, group = learner.settings, learner.group
    started, first, waited = time.monotonic(), learner.step, 0.0
    # Closing ends the loader processes, also after an exception.
    shared = group.share(samples, settings.optimiser.batch)
    with contextlib.closing(batches(shared, settings, device=learner.device)) as made:
        while learner.step < settings.optimiser.steps:
            began = time.monotonic()
            batch = next(made)
            waited += time.monotonic() - began
            losses = learner.update(batch)
            bar.update()
            if learner.step % _LOG_EVERY_STEPS == 0 or learner.step == settings.optimiser.steps:
                losses = group.mean(losses)
                elapsed = time.monotonic() - started
                speed = {"steps_per_s": (learner.step - first) / elapsed, "waiting": waited / elapsed}
                bar.set_postfix_str(" ".join(f"{name} {value:.3f}" for name, value in losses.items()))
                if records is not None:
                    records.write(learner.step, {**{f"loss/{k}": v for k, v in losses.items()}, **speed})
            # All processes stop after the same step, whichever received the signal.
            if group.any_of(interrupts.received):
                if group.is_first:
                    learner.save()
                raise KeyboardInterrupt
            paused = time.monotonic()
            yield learner.step
            started += time.monotonic() - paused  # exclude validation from the speed


class _Interrupts:
    """Delay Ctrl-C until the current step is complete. Inside the context, it is only recorded."""

    _NUMBERS = (signal.SIGINT, signal.SIGALRM)  # the alarm repeats a Ctrl-C that Python did not raise

    def __init__(self) -> None:
        self.received = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._record) for number in self._NUMBERS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: object) -> None:
        self.received = True

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """Raise KeyboardInterrupt immediately on Ctrl-C: no step is in progress."""
        self.__exit__()
        try:
            if self.received:
                raise KeyboardInterrupt
            yield
        finally:
            self.__enter__()
