"""What the images run when they are built, and what their containers run: the same words, in a fresh environment.

No Docker engine is needed: COPY, RUN, HEALTHCHECK and compose.yaml's commands are read from the files and carried out
here, with the image's paths and the services' names replaced.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr

from neuroseg.views.synthetic import synthetic_volume

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
# All in one process: the environment is installed once.
pytestmark = pytest.mark.xdist_group("docker")


def instructions(word: str) -> list[str]:
    return [line.removeprefix(word).strip() for line in DOCKERFILE.splitlines() if line.startswith(f"{word} ")]


def test_the_dockerfile_has_nothing_to_complain_of() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([str(linter), str(ROOT / "docker" / "Dockerfile")], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout


def test_both_images_are_made_alike_and_run_as_a_user_without_rights() -> None:
    assert instructions("RUN")[:2] == [f"docker/install /opt/neuroseg {kind}" for kind in ("cpu", "cuda")]
    assert instructions("USER") == ["1000"]
    assert f"ARG PYTHON={apptainer_base()}" in DOCKERFILE
    assert instructions("FROM")[-1] == "user AS cpu", "what `docker build` makes unless told otherwise"


def apptainer_base() -> str:
    found = re.search(r"^From: python:(.*)$", (ROOT / "docker" / "neuroseg.def").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_apptainer_takes_the_same_files() -> None:
    text = (ROOT / "docker" / "neuroseg.def").read_text()
    section = text.split("%files\n")[1].split("\n\n")[0]
    assert [line.split()[0] for line in section.splitlines()] == copied()


def copied() -> list[str]:
    """What comes from the repository into the image."""
    lines = [line.split() for line in instructions("COPY") if not line.startswith("--from")]
    return [name for *names, _ in lines for name in names]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment that the image `cpu` holds, made of the files that it is made of."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("image") / "neuroseg"
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied():
        assert f"!{name}" in allowed, f".dockerignore keeps {name} from the builder"
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, target)
    command = instructions("RUN")[0].replace("/opt/neuroseg", str(folder)).split()
    found = subprocess.run(command, cwd=source, env=bare(Path(sys.base_prefix)), capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    shutil.rmtree(source)
    return folder


def bare(prefix: Path) -> dict[str, str]:
    """An environment in which nothing is found but what `prefix` holds; pip's own configuration stays."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return {**kept, "PATH": f"{prefix}/bin:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/nonexistent")}


def contained(image: Path) -> dict[str, str]:
    """The environment of a container's processes, as ENV says."""
    words = " ".join(instructions("ENV")).replace("/opt/neuroseg", str(image)).split()
    said = dict(word.split("=", 1) for word in words)
    return {**bare(image), **said, "PATH": f"{image}/bin:/usr/bin:/bin"}


@pytest.mark.long
def test_a_container_is_healthy_and_helps(image: Path) -> None:
    health = json.loads(" ".join(instructions("HEALTHCHECK")).split("CMD ")[1])
    entry, default = (json.loads(instructions(word)[0]) for word in ("ENTRYPOINT", "CMD"))
    for command, expected in ((health, "0."), (entry + default, "predict")):
        found = subprocess.run(command, env=contained(image), capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        assert expected in found.stdout


@pytest.mark.long
def test_a_container_has_nothing_to_compile(image: Path) -> None:
    assert len(list((image / "kernels").rglob("*.nbi"))) > 10
    assert all(path.stat().st_mode & 0o002 for path in (image / "kernels").rglob("*") if path.is_dir())


def service(name: str, addresses: dict[str, str]) -> dict[str, Any]:
    """The service with other services' names, and ports, replaced."""
    text = json.dumps(COMPOSE["services"][name])
    # In one go: what has been replaced is not replaced again.
    replaced = re.sub("|".join(map(re.escape, addresses)), lambda found: addresses[found[0]], text)
    content: dict[str, Any] = json.loads(replaced)
    return content


ADDRESSES = {"tcp://scheduler:8786": "tcp://127.0.0.1:18786", "8786": "18786", "8787": "18787", "0.0.0.0": "127.0.0.1"}


@pytest.fixture
def services(image: Path, tmp_path: Path) -> Iterator[None]:
    """Scheduler and as many workers as compose.yaml wants, all healthy."""
    begun, healthy = [], []
    count = COMPOSE["services"]["worker"]["deploy"]["replicas"]
    made = [service("scheduler", ADDRESSES)]
    made += [service("worker", {**ADDRESSES, "8788": str(18788 + n), "/tmp": str(tmp_path)}) for n in range(count)]
    try:
        for each in made:
            begun.append(subprocess.Popen(each["entrypoint"], env=contained(image), cwd=tmp_path,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))  # fmt: skip
            healthy.append(healthily(each["healthcheck"]["test"][1:], contained(image)))
        assert all(healthy)
        yield
    finally:
        for process in reversed(begun):
            process.terminate()
        for process in begun:
            process.wait(30)


def healthily(command: list[str], environment: dict[str, str]) -> bool:
    """Whether a health check succeeds within half a minute."""
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        if subprocess.run(command, env=environment, capture_output=True).returncode == 0:
            return True
        time.sleep(0.5)
    return False


@pytest.mark.long
def test_head_and_workers_of_compose_give_the_bytes_of_one_process(image: Path, services: None, tmp_path: Path) -> None:
    made = synthetic_volume((40, 64, 64), 3)
    stored = zarr.create_array(
        str(tmp_path / "volume.zarr"), shape=made.raw.shape, dtype="u1", attributes={"voxel_size": [10, 10, 10]}
    )
    stored[:] = made.raw
    command = re.search(r"run --rm head \\\n#\s+(.*)$", (ROOT / "docker" / "compose.yaml").read_text(), re.MULTILINE)
    assert command
    words = command[1].replace("tcp://scheduler:8786", ADDRESSES["tcp://scheduler:8786"]).split()
    assert words[:2] == ["run", "volume.zarr"]
    alone = ["run", "volume.zarr", "--executor", "serial", "-o", "alone.neuroseg"]
    for line in ([*words, "--blocks", "32", "-o", "many.neuroseg"], alone):
        found = subprocess.run(["neuroseg", *line], env=contained(image), cwd=tmp_path, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    many, one = (zarr.open_array(str(tmp_path / f"{name}.neuroseg" / "segmentation.zarr" / "0"), mode="r")[:]
                 for name in ("many", "alone"))  # fmt: skip
    assert len(np.unique(one)) > 2
    np.testing.assert_array_equal(many, one)
