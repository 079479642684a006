"""What an installed package holds when the repository is not there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
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
