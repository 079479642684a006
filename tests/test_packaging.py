"""What an installed package holds when the repository is not there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# All in one process: the wheel is built once.
pytestmark = pytest.mark.xdist_group("packaging")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    # Of a copy: what earlier builds left beside the sources would get into the wheel.
    for name in ("neuroseg", "workers", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE.md"):
        shutil.copy2(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    made = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(next(folder.glob("neuroseg-*.whl"))) as wheel:
        return set(wheel.namelist())


def test_a_wheel_holds_every_module(wheel_names: set[str]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "neuroseg").rglob("*.py")}
    modules |= {f"neuroseg/workers/{path.name}" for path in (ROOT / "workers").glob("*.py")}
    assert modules <= wheel_names


def test_a_wheel_holds_configurations_and_bundles(wheel_names: set[str]) -> None:
    configurations = {f"neuroseg/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    bundles = {str(path.relative_to(ROOT)) for path in (ROOT / "neuroseg/networks/bundles").glob("*/*")}
    assert configurations
    assert any(name.endswith(".safetensors") for name in bundles)
    clusters = {f"neuroseg/configs/clusters/{path.name}" for path in (ROOT / "configs/clusters").glob("*.yaml")}
    scripts = {f"neuroseg/workers/slurm/{path.name}" for path in (ROOT / "workers/slurm").glob("*.sbatch")}
    assert clusters | scripts <= wheel_names
    assert len(scripts) == 3
    assert configurations | {name for name in bundles if "__pycache__" not in name} <= wheel_names
