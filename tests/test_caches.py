"""Folders of caches: the usual ones, or a private temporary folder if those are not writable."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuroseg import caches
from neuroseg.caches import choose_figure_folder, choose_kernel_folder, is_usable, private_folder
from neuroseg.kernels import compiled, compiled_in_place

CHOSEN = ("NEUROSEG_CHOSEN_NUMBA_CACHE_DIR", "NEUROSEG_CHOSEN_MPLCONFIGDIR")
VARIABLES = ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", *CHOSEN)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a temporary folder for this test. No variable is set."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")  # restored after the test
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


def closed(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Make the folders read-only for `caches`. The test may run as root, which ignores permissions."""

    def usable(folder: Path) -> bool:
        return not any(folder.is_relative_to(each) for each in folders) and is_usable(folder)

    monkeypatch.setattr(caches, "is_usable", usable)


def test_kernels_lie_in_numbas_folder_unless_it_is_read_only(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, home, private = elsewhere / "installed", elsewhere / "home", elsewhere / "tmp" / f"neuroseg-{os.getuid()}"
    assert choose_kernel_folder(sources) == str(sources / "__pycache__")
    assert not os.environ.get("NUMBA_CACHE_DIR")
    closed(monkeypatch, sources)
    assert choose_kernel_folder(sources) == os.environ["NUMBA_CACHE_DIR"] == str(home / ".cache" / "numba")
    del os.environ["NUMBA_CACHE_DIR"]
    closed(monkeypatch, sources, home)
    assert choose_kernel_folder(sources) == os.environ["NUMBA_CACHE_DIR"] == str(private / "kernels")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert choose_kernel_folder(sources) == str(private / "kernels"), "the variable is kept"
    closed(monkeypatch, elsewhere)
    assert choose_kernel_folder(sources) is None
    assert "NUMBA_CACHE_DIR" not in os.environ


def test_another_machine_chooses_its_own_private_folder(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On that machine, another user may own the folder."""
    closed(monkeypatch, elsewhere / "installed", elsewhere / "home")
    private = elsewhere / "tmp" / f"neuroseg-{os.getuid()}"
    assert choose_kernel_folder(elsewhere / "installed") == str(private / "kernels")
    private.chmod(0o777)
    chosen = choose_kernel_folder(elsewhere / "installed")
    assert chosen is not None
    assert chosen != str(private / "kernels")
    assert stat.S_IMODE(Path(chosen).parent.stat().st_mode) == 0o700
    assert choose_kernel_folder(elsewhere / "installed") == chosen, "workers of this machine inherit it"


def test_a_missing_or_relative_home_is_not_used(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(monkeypatch, elsewhere / "installed")
    monkeypatch.chdir(elsewhere)
    for variable, value in (("HOME", "~"), ("XDG_CACHE_HOME", "here")):
        monkeypatch.setenv(variable, value)
        monkeypatch.setenv("NUMBA_CACHE_DIR", "")
        assert choose_kernel_folder(elsewhere / "installed") == str(
            elsewhere / "tmp" / f"neuroseg-{os.getuid()}" / "kernels"
        )


def test_figures_have_their_own_folder(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_figure_folder() == str(elsewhere / "home" / ".config")
    closed(monkeypatch, elsewhere / "home" / ".cache")
    assert choose_figure_folder() == os.environ["MPLCONFIGDIR"]
    assert Path(os.environ["MPLCONFIGDIR"]).is_relative_to(elsewhere / "tmp")


@pytest.mark.parametrize("how", ["link", "open", "file"])
def test_a_folder_that_another_user_may_own_is_not_used(elsewhere: Path, how: str) -> None:
    taken = elsewhere / "tmp" / f"neuroseg-{os.getuid()}"
    if how == "link":
        (elsewhere / "theirs").mkdir(mode=0o700)
        taken.symlink_to(elsewhere / "theirs")
    elif how == "open":
        taken.mkdir()
        taken.chmod(0o770)
    else:
        taken.touch()
    found = private_folder("kernels")
    assert found is not None
    assert found.parent != taken
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700


def test_an_exhausted_quota_is_noticed(tmp_path: Path) -> None:
    """You can create files there, but not write to them."""
    small = tmp_path / "small"
    small.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(small)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        (small / "a").touch()
        assert not is_usable(small)
        assert [path.name for path in small.iterdir()] == ["a"]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


KERNEL = """
import errno, logging, sys
from pathlib import Path
from numba.core.caching import IndexDataCacheFile
from neuroseg.kernels import compiled

logging.basicConfig(format="%(message)s")

def full(self, path):
    raise OSError(errno.EDQUOT, "Disk quota exceeded")

if sys.argv[1] == "full":
    IndexDataCacheFile._open_for_write = full

@compiled
def more(a):
    return a + 1

@compiled
def less(a):
    return a - 1

print(more(2), less(2), len(list(Path(sys.argv[2]).rglob("*.nbc"))))
"""


def kernel(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    (folder / "kernel.py").write_text(KERNEL)
    cache = folder / "kernels"
    return subprocess.run(
        [sys.executable, str(folder / "kernel.py"), how, str(cache)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, capture_output=True, text=True, check=True,
    )  # fmt: skip


def test_a_cache_that_cannot_be_written_or_read_costs_a_compilation(tmp_path: Path) -> None:
    full = kernel(tmp_path, "full")
    assert full.stdout == "3 1 0\n"
    assert full.stderr.count("cannot save compiled kernels") == 1
    assert "Disk quota exceeded" in full.stderr
    assert kernel(tmp_path, "kept").stdout == "3 1 2\n"
    for index in (tmp_path / "kernels").rglob("*.nbi"):
        index.write_bytes(b"")  # as after a crash of the machine
    assert kernel(tmp_path, "kept").stdout == "3 1 2\n"


def test_a_kernel_is_compiled_again_when_a_kernel_that_it_calls_changes(tmp_path: Path) -> None:
    header = "from neuroseg.kernels import compiled\n"
    (tmp_path / "outer.py").write_text(
        f"{header}from inner import inner\n@compiled\ndef outer(a):\n    return 10 * inner(a)\n"
        "if __name__ == '__main__':\n    print(outer(2))\n"
    )

    def outcome(step: int) -> str:
        (tmp_path / "inner.py").write_text(f"{header}@compiled\ndef inner(a):\n    return a + {step}\n")
        command, environment = (
            [sys.executable, "outer.py"],
            {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")},
        )
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert [outcome(1), outcome(1), outcome(5), outcome(1)] == ["30", "30", "70", "30"]
    assert len(list((tmp_path / "kernels").rglob("*.nbc"))) >= 2, "kernels are kept"


def test_a_kernel_is_compiled_again_when_a_constant_of_another_file_changes(tmp_path: Path) -> None:
    (tmp_path / "kernel_of_a_constant.py").write_text(
        "from neuroseg.kernels import compiled\nfrom constant import STEP\n"
        "@compiled\ndef more(a):\n    return a + STEP\n"
        "if __name__ == '__main__':\n    print(more(2))\n"
    )

    def outcome(step: int) -> str:
        (tmp_path / "constant.py").write_text(f"STEP = {step}\n")
        command = [sys.executable, "kernel_of_a_constant.py"]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    assert [outcome(1), outcome(1), outcome(5)] == ["3", "3", "7"]


def test_a_kernel_in_place_counts_no_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuroseg.kernels._FOLDER", None)  # the code of a cached kernel is not shown

    def moved(pair):  # type: ignore[no-untyped-def]
        values, others = pair
        for at in range(len(values)):
            values, others = others, values
            values[at] += 1

    code = {}
    for kind in (compiled, compiled_in_place):
        kernel, pair = kind(moved), (np.zeros(3), np.zeros(3))
        kernel(pair)
        assert [each.tolist() for each in pair] == [[0, 1, 0], [1, 0, 1]]
        (code[kind],) = kernel.dispatcher.inspect_asm().values()
    assert "NRT_incref" in code[compiled]
    assert "NRT_incref" not in code[compiled_in_place]
