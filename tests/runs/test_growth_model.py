"""scripts/scale model: measurements by hand -> constants, needs of volumes, limits, tables and figure."""

from __future__ import annotations

import importlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from neuroseg.storage.parts import part_path

ROOT = Path(__file__).parents[2]
MEASURED = sorted((ROOT / "docs" / "internals" / "measured").glob("*.json"))
PAGE = ROOT / "docs" / "internals" / "performance.md"
MIB = 2**20


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of scripts/scale."""
    monkeypatch.syspath_prepend(ROOT / "scripts" / "scale")
    return importlib.import_module


def tables(edge: int, rows: list[int], peak_mib: int, **more: Any) -> dict[str, Any]:
    """One measurement of simulated tables: fragments of 10^3 voxels, 2 us a row, 4 us and 100 bytes a fragment."""
    fragments = edge**3 // 1000
    return {
        "shape": [edge] * 3, "block_voxels": 256, "fragments": fragments, "workers": 1, "memory": None,
        "rows_read_by_level": rows, "seconds": 2e-6 * sum(rows), "worker_peak_mib": peak_mib,
        "lookup_seconds": 4e-6 * fragments, "lookup_peak_mib": 100 + 100 * fragments / MIB, **more,
    }  # fmt: skip


def open_rows(edge: int, faces: int, thickness: float) -> int:
    """Rows in layers of a thickness in voxels around planes in a cube with a row for 1000 voxels."""
    return round(edge**3 / 1000 * (1 - (1 - faces * thickness / edge) ** 3))


def measurements() -> list[dict[str, Any]]:
    # Around groups of 512 voxels, layers are 80 voxels thick, around those of 1024 voxels 90, around 2048 95.
    small = [10**6, open_rows(1000, 1, 80)]
    large = [64 * 10**6, open_rows(4000, 7, 80), open_rows(4000, 3, 90), open_rows(4000, 1, 95)]
    slope = 100 / MIB
    segmented = {
        "kind": "affinities", "shape": [100, 100, 100], "block_voxels": 256, "mvoxel": 1, "blocks": 10, "workers": 2,
        "seconds": 5.0, "worker_peak_mib": 600, "fragments": 1000, "rows_of_edges": 3000, "rows_read_by_level": [3000],
        "worker_seconds_by_stage": {"fragments": 3.0, "relabel": 1.0, "lookup": 1.0},
        "blocks_by_stage": {"fragments": 10, "relabel": 10, "lookup": 1},
        "artifacts": {"edges": {"files": 10, "bytes": 2_000_000}},
    }  # fmt: skip
    peaks = (("plan", 1000, 900), ("fresh", 1000, 105), ("resumed", 1000, 110), ("fresh", 2000, 120))
    head = [{"command": command, "blocks": blocks, "peak_mib": peak} for command, blocks, peak in peaks]
    schedulers = {"executor": "local", "seconds_per_1000_blocks": 0.2, "blocks": 1000}
    both = [tables(1000, small, 50 + small[-1] * slope), tables(4000, large, 50 + large[-1] * slope)]
    return [segmented, *head, schedulers, *both]


def test_layers_at_planes_hold_a_share_of_the_volume(scale: Any) -> None:
    module = scale("open_rows")
    layers = module.Layers((10.0, 10.0, 5.0), (1, 2, 0), 4.0)
    assert layers.share(1.0) == pytest.approx(1 - 0.9 * 0.8)
    assert layers.share(20.0) == 1.0
    # A thickness of 2 - 4 / 4, and a tenth of the rest of the volume.
    assert module.Law(0.1, 2.0, 4.0).share(layers) == pytest.approx(1 - 0.9 * 0.9 * 0.8)
    assert module.Law(0.1, 2.0, 4.0).share(module.Layers((10.0, 10.0, 5.0), (0, 0, 0), 4.0)) == 0, "all are closed"


def test_a_law_is_found_again(scale: Any) -> None:
    module = scale("open_rows")
    every = [module.Layers((2.0 * width,) * 3, (1, 1, 1), width) for width in (30.0, 60.0, 240.0)]
    laws = {module.SURFACE: (0.0, 7.0, 50.0), module.VOLUME: (0.04, 7.0, 0.0)}
    for form, numbers in laws.items():
        law = module.Law(*numbers)
        measured = [(layers, law.share(layers)) for layers in every]
        assert module.best_form(measured) == form
        found = module.fitted(measured, form)
        assert (found.waiting, found.thickness, found.narrower) == pytest.approx(numbers, rel=1e-3)
        assert module.deviations(found, measured) == pytest.approx([0, 0, 0], abs=1e-5)


def test_constants_are_those_of_the_measurements(scale: Any) -> None:
    constants = scale("measured_constants").constants_of(measurements())
    # 10 seconds of workers, of which the fragments take three fifths.
    assert constants.stage_seconds == {"fragments": pytest.approx(6e-6), "relabel": pytest.approx(2e-6)}
    assert (constants.fragments_a_voxel, constants.rows_a_voxel) == (0.001, 0.003)
    assert constants.artifact_bytes == {"edges": 2.0}
    assert (constants.row_seconds, constants.lookup_seconds) == (pytest.approx(2e-6), pytest.approx(4e-6))
    assert (constants.group_memory.base, constants.group_memory.slope) == (pytest.approx(50 * MIB), pytest.approx(100))
    assert constants.lookup_memory.slope == pytest.approx(100)
    assert constants.head_memory.slope == pytest.approx(MIB / 100)
    law = constants.open_rows["simulated edges"]
    assert (law.waiting, law.thickness, law.narrower) == pytest.approx((0, 10, 102.4), rel=1e-3)
    assert list(constants.open_rows) == ["simulated edges"], "affinities of one group leave nothing"


def test_a_prediction_adds_its_stage_and_its_disk(scale: Any) -> None:
    predicted = {
        **measurements()[0], "kind": "raw", "seconds": 50.0,
        "worker_seconds_by_stage": {"affinities": 9, "fragments": 1},
        "blocks_by_stage": {"affinities": 20, "fragments": 10},
        "artifacts": {"affinities.zarr": {"files": 20, "bytes": 3_000_000}, "edges": {"files": 1, "bytes": 1}},
    }  # fmt: skip
    constants = scale("measured_constants").constants_of([predicted, *measurements()])
    assert constants.stage_seconds["affinities"] == pytest.approx(90e-6)
    assert constants.stage_seconds["fragments"] == pytest.approx(6e-6), "measured with given affinities"
    assert constants.stage_blocks["affinities"] == 2
    assert constants.artifact_bytes == {"affinities.zarr": 3.0, "edges": 2.0}


def test_a_missing_measurement_is_named(scale: Any) -> None:
    module = scale("measured_constants")
    with pytest.raises(module.UnusableError, match="1 measurements of scripts/scale agglomeration, expected 2"):
        module.constants_of(measurements()[:-1])
    for key, name in (("executor", "bench_schedulers"), ("command", "bench_head"), ("kind", "scale pipeline")):
        with pytest.raises(module.UnusableError, match=name):
            module.constants_of([row for row in measurements() if key not in row])


def test_rows_of_the_last_group_grow_like_a_surface(scale: Any) -> None:
    module, constants = scale("volume_model"), scale("measured_constants").constants_of(measurements())
    small, large = (module.needs_of("", (edge,) * 3, constants) for edge in (8000, 64000))
    assert large.rows == pytest.approx(512 * small.rows)
    # A slab of nearly the same thickness, on 64 times the area.
    assert large.levels[-1].group_rows == pytest.approx(64 * small.levels[-1].group_rows, rel=0.1)
    assert [level.groups for level in small.levels] == [4096, 512, 64, 8, 1]
    assert small.levels[-1].rows == pytest.approx(small.rows * (1 - (1 - 10 / 800) ** 3), rel=0.1)


def test_affinities_that_wait_make_the_last_group_grow_like_the_volume(scale: Any) -> None:
    module, rows = scale("volume_model"), measurements()
    # 125 voxels for a fragment. Layers of 8 fragments at planes across the last axis, and 4 % of all rows wait.
    shape = (512, 512, 4096)
    layers = [(1 - 8 * faces / (4096 / 5), faces) for faces in (7, 3, 1)]
    shares = [1 - 0.96 * inside for inside, _ in layers]
    voxels = math.prod(shape)
    long = {
        **rows[0], "shape": list(shape), "mvoxel": voxels // 10**6, "fragments": voxels // 125,
        "rows_of_edges": 10**8, "rows_read_by_level": [10**8, *(round(1e8 * share) for share in shares)],
    }  # fmt: skip
    constants = scale("measured_constants").constants_of([*rows, long])
    law = constants.open_rows["affinities"]
    assert (law.waiting, law.thickness, law.narrower) == pytest.approx((0.04, 8, 0), rel=1e-3)
    small, large = (module.needs_of("", (edge,) * 3, constants) for edge in (64_000, 512_000))
    assert large.levels[-1].rows == pytest.approx(0.04 * large.rows, rel=0.01 + 24 * 5 / 512_000 / 0.04)
    assert large.levels[-1].rows / small.levels[-1].rows == pytest.approx(512, rel=0.1)
    simulated = [needs.worker_bytes["last group, simulated"] for needs in (small, large)]
    assert simulated[1] / simulated[0] == pytest.approx(64, rel=0.1)
    assert simulated[1] < large.worker_bytes["last group"]


def test_kasthuri15_has_its_blocks_and_no_layers_along_its_short_axis(scale: Any) -> None:
    module, constants = scale("volume_model"), scale("measured_constants").constants_of(measurements())
    needs = module.needs_of("", (1850, 12895, 10747), constants)
    assert needs.blocks == 8 * 51 * 42
    assert needs.levels[-1].rows == pytest.approx(needs.rows * (1 - (1 - 99 / 12895) * (1 - 99 / 10747)), rel=0.05)
    assert needs.core_hours["fragments"] == pytest.approx(math.prod(needs.shape) * 6e-6 / 3600)
    assert needs.serial_hours == pytest.approx(needs.levels[-1].group_hours + needs.core_hours["lookup"])
    groups = sum(level.groups for level in needs.levels)
    assert needs.handed_out == 2 * needs.blocks + groups + 1
    assert needs.head_hours == pytest.approx(needs.handed_out * 0.2e-3 / 3600)


def test_entries_of_folders_are_those_of_parts(scale: Any) -> None:
    count = scale("volume_model").entries_of_a_folder
    for blocks in (1, 4999, 5000, 5001, 10000, 17136):
        places = {part_path(Path("t"), block) for block in range(blocks)}
        places |= {place.parent for place in places} - {Path("t")}
        assert count(blocks) == max(Counter(place.parent for place in places).values()), blocks


def test_a_limit_is_reached_by_the_smallest_cube_beyond_it(scale: Any) -> None:
    limits, model = scale("volume_limits"), scale("volume_model")
    constants = scale("measured_constants").constants_of(measurements())

    def needs_of(voxels: float) -> Any:
        return model.needs_of("", model.cube(voxels), constants)

    every = limits.limits_of(limits.Machine(worker_gib=1, days=1))
    impossible = limits.Limit("impossible", math.inf, lambda needs: needs.voxels, "")
    found = limits.reached([impossible, *every], needs_of)
    assert found[-1]["limit"] == "impossible"
    assert found[-1]["voxels"] is None
    sizes = [each["voxels"] for each in found[:-1]]
    assert sizes == sorted(sizes)
    by_name = {limit.name: limit for limit in every}
    for each in found[:-1]:
        limit = by_name[each["limit"]]
        assert limit.value(needs_of(1.01 * each["voxels"])) > limit.most, each
        assert limit.value(needs_of(0.98 * each["voxels"])) <= limit.most, each
    lookup = next(each for each in found if each["limit"] == "`lookup` in memory, 1 GiB")
    assert lookup["voxels"] == pytest.approx((1024 - 100) * MIB / 100 / 0.001, rel=0.01)


def test_the_figure_has_readable_text_and_every_limit(scale: Any, tmp_path: Path) -> None:
    from matplotlib.text import Text

    result = scale("growth_model").modelled(measurements(), scale("volume_limits").Machine())
    figures = scale("growth_figure")
    figure = figures.growth_figure(result)
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 9
    words = " ".join(text.get_text() for text in texts)
    inside = [each for each in result["limits"] if each["voxels"] and each["voxels"] <= 1e17]
    assert inside
    assert all(each["limit"].replace("`", "") in words for each in inside)
    figures.draw_growth(tmp_path / "growth.png", result)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_short_numbers(scale: Any) -> None:
    short = scale("growth_page").short
    numbers = {
        0: "0",
        0.0341: "0.034",
        4.14: "4.1",
        9.96: "10",
        820.4: "820",
        17136: "17 k",
        1.25e6: "1.2 M",
        1e12: "1 T",
    }
    assert {each: short(each) for each in numbers} == numbers


def test_the_page_has_the_tables_of_the_stored_measurements(scale: Any) -> None:
    """After a new measurement: python scripts/scale model docs/internals/measured/*.json --plot ... --page ..."""
    rows = [row for file in MEASURED for row in json.loads(file.read_text())]
    result = scale("growth_model").modelled(rows, scale("volume_limits").Machine())
    page = PAGE.read_text()
    assert scale("growth_page").with_tables(page, result) == page
    with pytest.raises(ValueError, match="lacks the lines"):
        scale("growth_page").with_tables("no marks", result)
