"""Brain extraction: padding has no say, and a second brain is measured."""

from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
import pytest
import torch
from deepbet import BrainExtraction
from scan_states import state_of

from ermoe_ba.assets import template
from ermoe_ba.errors import RefusedScanError
from ermoe_ba.preprocess import ScanState
from ermoe_ba.preprocess.brain import ExtractBrain, FirstLook
from ermoe_ba.space import SpatialGrid, Volume


class _BrightIsBrain:
    """In deepbet's place: a brain wherever it is bright; keeps the shapes that it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.bbox_model = FirstLook(lambda image: torch.cat([-image, image], dim=1))

    def run_model(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self.seen.append(data.shape)
        self.bbox_model(torch.from_numpy(data > 50).float()[None, None])
        return (data > 50).astype(np.float32)

    def postprocess(self, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Keep the largest part, as deepbet does."""
        parts = cc3d.connected_components(mask)
        return parts == np.bincount(parts[mask]).argmax()


def _head_in(border: int, voxel_mm: float) -> ScanState:
    """A bright cube of 48 mm in a dim one of 80 mm, which is so many voxels from all six ends."""
    half, brain = round(40 / voxel_mm), round(24 / voxel_mm)
    n = 2 * (half + border)
    away = np.abs(np.indices((n, n, n)) + 0.5 - n / 2).max(axis=0)
    data = np.where(away < brain, 100, np.where(away < half, 10, 0)).astype(np.float32)
    grid = SpatialGrid(data.shape, np.diag([*[voxel_mm] * 3, 1]), "scan")
    return state_of(Volume(data, grid))


@pytest.mark.parametrize(("border", "seen"), [(0, 40), (3, 46), (4, 48), (5, 48), (30, 48)])
def test_no_more_than_8_mm_of_padding_have_a_say_in_the_brain(
    monkeypatch: pytest.MonkeyPatch, border: int, seen: int
) -> None:
    """Of voxels of 2 mm, the head fills 40 along each axis, and 4 are 8 mm."""
    network = _BrightIsBrain()
    monkeypatch.setattr(ExtractBrain, "_network", network)
    state = _head_in(border, 2.0)
    result = ExtractBrain(1.25, (100.0, 200.0), "cpu")(state)
    assert network.seen == [(seen, seen, seen)]
    # The brain lies where it lay, and is all of it: 48 mm cubed.
    np.testing.assert_array_equal(result.mask.data, state.image.data == 100)
    assert result.figures["brain_volume_ml"] == pytest.approx(4.8**3)
    assert result.figures["second_brain_ml"] == 0.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_brain_beside_the_one_that_is_found_is_measured(
    monkeypatch: pytest.MonkeyPatch, axis: int
) -> None:
    """Cubes of 48 and 40 mm side by side: 110.592 mL are the brain, and 64 mL another."""
    monkeypatch.setattr(ExtractBrain, "_network", _BrightIsBrain())
    one = _head_in(10, 2.0).image
    other = np.where(one.data == 100, 10, one.data)
    middle = one.grid.shape[0] // 2
    other[(slice(middle - 10, middle + 10),) * 3] = 100
    data = np.concatenate([other, one.data], axis=axis)
    both = Volume(data, SpatialGrid(data.shape, one.grid.affine, "scan"))
    figures = ExtractBrain(1.25, (100.0, 200.0), "cpu")(state_of(both)).figures
    assert figures["brain_volume_ml"] == pytest.approx(4.8**3)
    assert figures["second_brain_ml"] == pytest.approx(4.0**3)


def test_deepbet_tells_of_its_first_look_and_answers_as_it_would() -> None:
    """The template's brain alone, and one above the other."""
    step = ExtractBrain(1.25, (700.0, 2500.0), "cpu")
    brain = template("desc-brain_T1w").data.astype(np.float32)
    for times, share in ((1, False), (2, True)):
        shown = np.concatenate([brain] * times, axis=2)
        found = step._network.run_model(shown.copy())
        assert (step._network.bbox_model.second_share > 0.1) == share
        np.testing.assert_array_equal(found, BrainExtraction(no_gpu=True).run_model(shown.copy()))


def test_an_image_that_is_even_shows_all_of_it_and_no_brain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = _BrightIsBrain()
    monkeypatch.setattr(ExtractBrain, "_network", network)
    even = state_of(Volume(np.zeros((4, 5, 6), np.float32), SpatialGrid((4, 5, 6), np.eye(4), "s")))
    with pytest.raises(RefusedScanError, match="0 mL that look like one"):
        ExtractBrain(1.25, (100.0, 200.0), "cpu")(even)
    assert network.seen == [(4, 5, 6)]
