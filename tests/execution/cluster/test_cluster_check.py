"""`neuroseg cluster check`, and the cluster configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError
from neuroseg.execution.cluster.site import NO_SITE, VARIABLE, site_named
from tests.execution.clusters import needs_slurm


def described(tmp_path: Path, text: str) -> str:
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    return str(path)


def checked(tmp_path: Path, text: str, *more: str) -> int:
    return exit_code(["cluster", "check", described(tmp_path, text), "-o", str(tmp_path), *more])


@pytest.mark.long
@needs_slurm
def test_each_kind_of_job_is_tried_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "default: {workers: 2}\nstages: {edges: {workers: 9}, relabel: {partition: gpu}}"
    assert checked(tmp_path, text, "--json") == 0
    one, other = json.loads(capsys.readouterr().out)
    assert (len(one["stages"]), other["stages"]) == (7, ["relabel"]), "how many workers there are makes no other job"
    assert one["said"]["cores"] >= 1
    assert list(tmp_path.iterdir()) == [tmp_path / "lab.yaml"], "nothing is left"


@pytest.mark.long
@needs_slurm
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: {partition: nowhere}", "invalid partition"),
        ("launch: [/no/such/container]", "/no/such/container: No such file"),
        ("stages: {affinities: {gpus: 1, partition: gpu}}", "requested 1 GPU(s), but torch sees 0"),
        ("default: {gpus: 99}", "ode configuration is not available"),
        (
            "activate: |\n  module-of-nobody load cuda\n  true",
            "`activate` failed, exit code 127 of: module-of-nobody load cuda",
        ),
        ("activate: module-of-nobody", "module-of-nobody: command not found"),
        ("activate: exit 3", "activate: it ended the job with exit code 3"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    assert checked(tmp_path, text) == 1
    assert message in capsys.readouterr().err
    for left in tmp_path.glob(".check-*"):
        assert list(left.glob("*.log")), "what is left is what the job said"


@pytest.mark.long
@needs_slurm
def test_a_head_that_jobs_cannot_reach_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tmp_path, "host: nobody.invalid") == 1
    assert "cannot connect to the head: nobody.invalid" in capsys.readouterr().err


def test_the_example_is_a_description() -> None:
    assert site_named("example").resources("affinities").workers == 2


def test_wrong_descriptions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site_named(None) is NO_SITE
    with pytest.raises(
        InputError, match=r"cluster configuration nowhere does not exist\nhint: .* packaged configuration: example$"
    ):
        site_named("nowhere")
    with pytest.raises(InputError, match=r"cluster configuration .*nosite\.yaml does not exist\nhint: "):
        site_named(str(tmp_path / "nosite.yaml"))
    with pytest.raises(InputError, match="is a folder, not a cluster configuration file"):
        site_named(str(tmp_path))
    with pytest.raises(InputError, match="did you mean affinities"):
        site_named(described(tmp_path, "stages: {affinites: {}}"))
    with pytest.raises(InputError, match="memry"):
        site_named(described(tmp_path, "default: {memry: 4G}"))
    for entry in ("time: 4:00:00", "memory: 16"):
        with pytest.raises(InputError, match="put it in quotes"):
            site_named(described(tmp_path, f"default: {{{entry}}}"))
    with pytest.raises(InputError, match="neuroseg sets -Mother itself"):
        site_named(described(tmp_path, "default: {sbatch: [-Mother]}"))
    monkeypatch.setenv(VARIABLE, described(tmp_path, "host: login1"))
    assert site_named(None).host == "login1"


def test_a_configuration_cannot_bring_its_own_cluster(
    raw_volume: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cluster configuration file contains commands to execute. It comes only from the command line."""
    (tmp_path / "theirs.yaml").write_text("executor: serial\ncluster: /their/site.yaml\n")
    assert exit_code(["run", raw_volume, "--config", str(tmp_path / "theirs.yaml")]) == 2
    assert "cluster" in capsys.readouterr().err
