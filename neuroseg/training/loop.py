"""The training loop: batches -> steps, logged, validated and saved on the way."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from neuroseg.training.records import Records
from neuroseg.training.settings import PretrainingSettings, TrainingSettings
from neuroseg.training.team import Team

_LOG_EVERY_STEPS = 20


class Learner(Protocol):
    """What the loop drives: it knows its step, takes batches and saves itself."""

    settings: Any
    folder: Path
    team: Team
    step: int
    validated: int

    def update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Take one step; returns the parts of the loss."""
        ...

    def save(self) -> None:
        """Write a checkpoint."""
        ...

    def pictures(self) -> dict[str, torch.Tensor]:
        """Return pictures of the last step, `(channels, y, x)` in [0, 1]; none before the first."""
        ...


def batches(samples: Any, settings: TrainingSettings | PretrainingSettings) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of tensors in the order of the samples, made in `loader_workers` other processes."""
    loader: Any = DataLoader(
        samples,
        batch_size=settings.optimiser.batch,
        num_workers=settings.loader_workers,
        worker_init_fn=_begin_worker,
        prefetch_factor=4 if settings.loader_workers else None,
    )
    yield from loader


def _begin_worker(worker: int) -> None:
    """Compute with one thread, and end with the training alone: Ctrl-C is its affair, and it saves first."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def run_training(
    learner: Learner, samples: Any, validate: Callable[[int], dict[str, float]], *, progress: bool = True
) -> None:
    """Train until the last step, saving and validating every `validation.every_steps`.

    `validate(step)` returns named numbers to log; what it keeps is its own affair. Ctrl-C (and SIGTERM, which the
    command line turns into it) lets the step in hand end, saves, and raises KeyboardInterrupt.
    """
    settings, team = learner.settings, learner.team
    last, every = settings.optimiser.steps, settings.validation.every_steps
    records = Records(learner.folder) if team.leads else None
    shown = progress and team.leads
    bar = tqdm(total=last, initial=learner.step, unit="step", disable=not shown, mininterval=5)
    try:
        if 0 < learner.step != learner.validated and learner.step % every == 0:
            _validate(learner, validate, records)  # it was cut off while it did
        for step in _steps(learner, samples, records, bar):
            if step % every == 0 or step == last:
                _validate(learner, validate, records)
    finally:
        bar.close()
        if records is not None:
            records.close()


def _validate(learner: Learner, validate: Callable[[int], dict[str, float]], records: Records | None) -> None:
    """Validate and save; cut off while it validates, it saves too, and validates again when it resumes."""
    if records is not None:
        try:
            scores = validate(learner.step)
            learner.validated = learner.step
            records.write(learner.step, {f"validation/{name}": value for name, value in scores.items()})
            records.show(learner.step, learner.pictures())
        finally:
            learner.save()
    learner.team.wait()


def _steps(learner: Learner, samples: Any, records: Records | None, bar: Any) -> Iterator[int]:
    """Take the steps that are left and log them; yields the number of each. Interrupted, it saves first."""
    settings, team = learner.settings, learner.team
    started, first, waited = time.monotonic(), learner.step, 0.0
    made = batches(team.share(samples, settings.optimiser.batch), settings)
    try:
        while learner.step < settings.optimiser.steps:
            with _deferred_interrupt() as interrupted:
                began = time.monotonic()
                batch = next(made)
                waited += time.monotonic() - began
                losses = learner.update(batch)
            if team.agree(bool(interrupted)):
                raise KeyboardInterrupt
            bar.update()
            if learner.step % _LOG_EVERY_STEPS == 0 or learner.step == settings.optimiser.steps:
                losses = team.mean(losses)
                elapsed = time.monotonic() - started
                speed = {"steps_per_s": (learner.step - first) / elapsed, "waiting": waited / elapsed}
                bar.set_postfix_str(" ".join(f"{name} {value:.3f}" for name, value in losses.items()))
                if records is not None:
                    records.write(learner.step, {**{f"loss/{k}": v for k, v in losses.items()}, **speed})
            yield learner.step
    except KeyboardInterrupt:
        if team.leads:
            learner.save()
        raise


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[list[int]]:
    """Keep Ctrl-C from cutting a step in half: yields a list that is not empty once it came."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)
