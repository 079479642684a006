"""The figure is a PNG of 2000 pixels width. Colours identify segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuroseg.errors import InputError
from neuroseg.views.colours import colours_of, named_as_truth
from neuroseg.views.figure import WIDTH_PIXELS, segmentation_figure


def quarters(shape: tuple[int, int, int]) -> np.ndarray:
    """Labels 1 to 4: left and right of the middle, above and below."""
    _, y, x = np.indices(shape)
    return (1 + (x >= shape[2] // 2) + 2 * (y >= shape[1] // 2)).astype(np.uint64)


def drawn(
    path: Path,
    shape: tuple[int, int, int] = (6, 16, 20),
    labels: dict[str, np.ndarray] | None = None,
    **changed: object,
) -> np.ndarray:
    """The picture's pixels `(height, width, 3)` for quarters on mid grey."""
    arguments: dict = {
        "raw": np.full(shape, 128, np.uint8),
        "affinities": np.full((3, *shape), 200, np.uint8),
        "labels": {"fragments": quarters(shape), "segmentation": quarters(shape), **(labels or {})},
        "voxel_size_nm": (40, 8, 8),
    }
    segmentation_figure(path, **(arguments | changed))
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def colours_in(pixels: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}


def test_the_figure_is_a_png_of_the_promised_width(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "view.png", labels={"truth": quarters((6, 16, 20))}, title="six sections")
    assert pixels.shape[1] == WIDTH_PIXELS == 2000
    assert [path.name for path in tmp_path.iterdir()] == ["view.png"]


def test_the_figure_works_without_truth_and_with_one_affinity_channel(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "view.png", affinities=np.full((1, 6, 16, 20), 77, np.uint8))
    assert pixels.shape[1] == WIDTH_PIXELS
    assert (77, 77, 77) in colours_in(pixels)


def test_a_right_segmentation_with_other_ids_shows_no_other_colours_than_the_truth(tmp_path: Path) -> None:
    truth = quarters((6, 16, 20))
    other_ids = np.array([0, 4, 30, 1, 2**63 + 5], np.uint64)[truth]
    same = drawn(tmp_path / "same.png", labels={"truth": truth})
    permuted = drawn(tmp_path / "permuted.png", labels={"truth": truth, "segmentation": other_ids})
    np.testing.assert_array_equal(permuted, same)


def test_voxels_have_their_physical_proportions(tmp_path: Path) -> None:
    plain = drawn(tmp_path / "plain.png", voxel_size_nm=(8, 8, 8))
    tall = drawn(tmp_path / "tall.png", voxel_size_nm=(64, 8, 8))
    # The affinity panels' area, in squares of 8 nm: 16 x 20, then 6 x 20 and 6 x 16, these eight times as tall.
    areas = [(pixels == 200).all(axis=-1).sum() for pixels in (plain, tall)]
    assert areas[1] / areas[0] == pytest.approx((320 + 8 * 216) / (320 + 216), rel=0.02)


def test_matplotlib_keeps_no_global_figure(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    drawn(tmp_path / "view.png")
    assert plt.get_fignums() == []


def test_arrays_of_different_regions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"segmentation has shape \(5, 16, 20\), expected \(6, 16, 20\) as raw"):
        drawn(tmp_path / "view.png", labels={"segmentation": quarters((5, 16, 20))})
    with pytest.raises(InputError, match="voxel_size_nm"):
        drawn(tmp_path / "view.png", voxel_size_nm=(8, 0, 8))
    assert list(tmp_path.iterdir()) == []


def test_id_zero_is_clear_and_others_are_opaque_and_bright() -> None:
    colours = colours_of(np.arange(500))
    assert colours[0, 3] == 0
    assert (colours[1:, 3] == 1).all()
    assert colours[1:, :3].max(axis=1).min() > 0.7
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_consecutive_ids_differ_clearly() -> None:
    colours = colours_of(np.arange(1, 2000))[:, :3]
    assert abs(np.diff(colours, axis=0)).max(axis=1).min() > 0.25


def test_a_perfect_segmentation_with_permuted_ids_gets_the_truths_colours() -> None:
    truth = np.array([[1, 1, 2], [3, 2, 0], [3, 4, 4]])
    segmentation = np.array([0, 4, 9, 2, 1])[truth]
    np.testing.assert_array_equal(colours_of(named_as_truth(segmentation, truth)), colours_of(truth))


def test_only_the_largest_part_of_a_split_neurite_keeps_its_colour() -> None:
    truth = np.array([[1, 1, 1, 1, 2]])
    segmentation = np.array([[2, 1, 1, 1, 5]])
    named = named_as_truth(segmentation, truth)
    assert named[0, 1:].tolist() == [1, 1, 1, 2]
    assert named[0, 0] not in (0, 1, 2)


def test_a_merged_segment_has_the_colour_of_its_largest_neurite() -> None:
    truth = np.array([[1, 2, 2, 3]])
    assert named_as_truth(np.array([[8, 8, 8, 2]]), truth).tolist() == [[2, 2, 2, 3]]
