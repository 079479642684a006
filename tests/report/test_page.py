"""The report of a run: one page that parses, loads nothing, describes every picture and shows what is known."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from neuroseg.cli.main import exit_code
from neuroseg.report.write import write_at_end, write_report
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.workspaces import synthetic_affinities

OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
PLACED = {"voxel_size": [40.0, 10.0, 10.0], "offset": [80.0, -20.0, 30.0], "units": ["nm"] * 3}
_EMPTY = {"img", "meta", "br", "path", "rect", "use"}
ROI = "0:24,3:61,5:70"


class Page(HTMLParser):
    """The elements of a page; fails for tags that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def prose(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


def require_sound(page: Page) -> None:
    """Fail unless a page is self-contained, has alternative texts, ordered headings, and ids that occur once."""
    for _, attributes in page.found:
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/webp;base64,"))
    assert not page.all("script", "link", "iframe", "object", "embed", "form")
    assert "url(http" not in page.text
    assert "@import" not in page.text
    for image in page.all("img"):
        assert len(image["alt"] or "") > 5
        data = (image["src"] or "").partition("base64,")[2]
        with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
            assert max(opened.size) <= 2000
    assert all(svg.get("aria-label") for svg in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Affinities of anisotropic voxels with an offset, a mask of half of them, and a truth of a part."""
    folder = tmp_path_factory.mktemp("report")
    affinities = synthetic_affinities((24, 64, 80))
    mask = np.ones((24, 64, 80), np.uint8)
    mask[:, 32:, 40:] = 0
    _, y, x = np.indices((12, 40, 40))
    truth = (1 + (x >= 20) + 2 * (y >= 20)).astype(np.uint64)
    place = {**PLACED, "offset": [80.0 + 40 * 6, -20.0 + 10 * 8, 30.0 + 10 * 10]}
    zarr.create_array(
        str(folder / "A.zarr"), data=affinities, chunks=(3, 8, 16, 16), attributes={**PLACED, "offsets": OFFSETS}
    )
    zarr.create_array(str(folder / "mask.zarr"), data=mask, chunks=(8, 32, 32), attributes=PLACED)
    zarr.create_array(str(folder / "truth.zarr"), data=truth, chunks=(12, 40, 40), attributes=place)
    return folder


def segmented(folder: Path, name: str, *more: str) -> Path:
    """Segment the affinities with small blocks and return the workspace."""
    arguments = ["segment", "--affinities", f"{folder}/A.zarr", "-o", f"{folder}/{name}", "--blocks", "8,32,32"]
    assert exit_code([*arguments, "--executor", "serial", *more]) == 0
    return folder / name


@pytest.fixture(scope="module")
def masked(folder: Path) -> Path:
    return segmented(folder, "masked & <b>.neuroseg", "--mask", f"{folder}/mask.zarr", "--roi", ROI)


def test_the_end_of_a_run_writes_a_sound_page(masked: Path) -> None:
    page = Page(masked / "report.html")
    require_sound(page)
    assert "masked & <b>.neuroseg" in page.prose, "names are escaped"
    assert "The run is complete." in page.prose
    assert not page.all("b")
    titles = ["stage by stage", "Segments", "Block faces", "Blocks", "Time, memory and disk", "Configuration"]
    assert all(title in page.prose for title in titles)
    assert "Places to inspect" not in page.prose, "the page at the end of a run is brief"
    assert [path.name for path in masked.iterdir() if "partial" in path.name] == []


def test_every_stage_is_shown_in_three_planes(masked: Path) -> None:
    page = Page(masked / "report.html")
    alternatives = [image["alt"] or "" for image in page.all("img")]
    for stage in ("affinities", "fragments", "segmentation"):
        for plane in ("xy", "xz", "yz"):
            assert any(text.startswith(f"{stage} in the {plane} plane") for text in alternatives)
    shape = next(image for image in page.all("img") if image["alt"].startswith("affinities in the xz"))  # type: ignore[union-attr]
    assert shape["style"] == "aspect-ratio:650/960", "65 voxels of 10 nm, 24 of 40 nm"


def test_a_masked_region_has_maps_without_the_blocks_outside(masked: Path) -> None:
    page = Page(masked / "report.html")
    states = next(image for image in page.all("img") if (image["alt"] or "").startswith("fragments: state"))
    # 3 x 2 x 3 blocks; the last of each layer lies outside the mask.
    assert "15 done, 0 left, 0 failed" in str(states["alt"])
    assert ROI in page.prose


def test_an_exact_run_has_no_seam(masked: Path) -> None:
    assert re.search(r"Block faces and inner planes agree|No seam", Page(masked / "report.html").prose)


def test_cut_fragments_are_a_seam(folder: Path) -> None:
    pytest.importorskip("skimage")
    cut = segmented(folder, "cut.neuroseg", "--fragments", "seeded-watershed")
    prose = Page(cut / "report.html").prose
    assert "More labels end at block faces than at other planes: fragments along" in prose
    assert "The fragment method seeded-watershed cuts fragments at block faces." in prose


def test_with_truth_there_are_scores_errors_and_a_curve(masked: Path, folder: Path, tmp_path: Path) -> None:
    before = (masked / "report.html").read_bytes()
    path = write_report(str(masked), truth=f"{folder}/truth.zarr", output=tmp_path / "full.html")
    assert path == tmp_path / "full.html"
    assert (masked / "report.html").read_bytes() == before
    page = Page(path)
    require_sound(page)
    assert "VOI split" in page.prose
    assert re.search(rf"neuroseg segment '{masked}' --threshold 0\.\d+ |is the best of the sweep", page.prose)
    assert "Places to inspect" in page.prose
    assert any("lowest sum" in (svg["aria-label"] or "") for svg in page.all("svg"))
    assert any((image["alt"] or "").startswith("truth in the xy plane") for image in page.all("img"))
    assert path.stat().st_size < 2_000_000


def test_without_truth_there_are_suspects(masked: Path, tmp_path: Path) -> None:
    page = Page(write_report(str(masked), output=tmp_path / "suspects.html"))
    require_sound(page)
    assert f"neuroseg suspects '{masked}'" in page.prose
    assert "VOI split" not in page.prose


def test_a_run_with_failed_blocks_has_a_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("_CHECKED_VOXELS", "_SAMPLED_BOXES"):
        monkeypatch.setattr(f"neuroseg.volumes.volume.{name}", 0)
    values = (synthetic_affinities((24, 32, 48)) / 255).astype(np.float32)
    values[0, 20, 5, 40] = np.nan
    zarr.create_array(
        str(tmp_path / "F.zarr"), data=values, chunks=(3, 8, 16, 16), attributes={**PLACED, "offsets": OFFSETS}
    )
    arguments = ["segment", "--affinities", f"{tmp_path}/F.zarr", "-o", f"{tmp_path}/w", "--blocks", "8,16,16"]
    assert exit_code([*arguments, "--executor", "serial"]) == 1
    message = capfd.readouterr().err
    assert f"report: {tmp_path}/w/report.html" in message
    page = Page(tmp_path / "w" / "report.html")
    require_sound(page)
    assert "Blocks have failed." in page.prose
    assert "voxel (20, 5, 40) (z, y, x) is nan" in page.prose
    assert re.search(rf"neuroseg replay {tmp_path}/w fragments \d+", page.prose)
    states = next(image for image in page.all("img") if (image["alt"] or "").startswith("fragments: state"))
    failed = int(re.findall(r"(\d+) failed", str(states["alt"]))[0])
    assert failed > 0
    assert "The segmentation of this plan is not finished." in page.prose


def test_only_a_prediction_has_a_report(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    arguments = ["predict", raw_volume, "--model", tiny_model, "-o", f"{tmp_path}/w", "--blocks", "32"]
    assert exit_code([*arguments, "--executor", "serial"]) == 0
    page = Page(tmp_path / "w" / "report.html")
    require_sound(page)
    assert "neuroseg predict" in page.prose
    assert {"raw in the xy plane at z = 20"} <= {image["alt"] for image in page.all("img")}


def test_a_moved_input_is_left_out_with_a_sentence(folder: Path, tmp_path: Path) -> None:
    made = segmented(folder, "moved.neuroseg", "--no-report")
    assert not (made / "report.html").exists()
    (folder / "A.zarr").rename(folder / "away.zarr")
    try:
        page = Page(write_report(str(made)))
    finally:
        (folder / "away.zarr").rename(folder / "A.zarr")
    require_sound(page)
    assert "affinities: not shown, because it cannot be read" in page.prose
    assert any((image["alt"] or "").startswith("segmentation in the xy plane") for image in page.all("img"))


def test_a_report_that_fails_does_not_fail_the_run(
    masked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> str:
        raise ZeroDivisionError("a bug")

    before = (masked / "report.html").read_bytes()
    monkeypatch.setattr("neuroseg.report.write.segments_section", broken)
    assert write_at_end(Workspace(masked)) is None
    assert [record.message for record in caplog.records] == ["no report was written: ZeroDivisionError: a bug"]
    assert (masked / "report.html").read_bytes() == before
