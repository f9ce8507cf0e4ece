"""Brain extraction by deepbet, and the recognition of scans that were extracted before."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import cc3d
import fill_voids
import numpy as np
from monai.transforms import Transform

from ermoe_ba.errors import RefusedScanError
from ermoe_ba.preprocess.field_of_view import flat_end_cm2
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import Array


class ExtractBrain(Transform):
    """Mark the voxels inside the skull (deepbet, Fisch 2024), without stripping twice.

    A head without skull is recognised by its background: voxels that are not background then fill
    hardly more than the mask that deepbet finds. Its own outline is kept as the mask.

    Parameters
    ----------
    stripped_ratio : float
        At most this ratio of foreground to mask volume: the brain had been extracted before.
    volume_range_ml : tuple of float
        Intracranial volumes outside it are refused: what was found is no adult brain.
    device : {"cpu", "cuda", "mps"}
        Where deepbet computes.
    """

    def __init__(
        self, stripped_ratio: float, volume_range_ml: tuple[float, float], device: str
    ) -> None:
        self.stripped_ratio = stripped_ratio
        self.volume_range_ml = volume_range_ml
        self.device = device

    @cached_property
    def _network(self) -> Any:
        from deepbet import BrainExtraction

        return BrainExtraction(no_gpu=self.device == "cpu")

    def _find(self, data: Array) -> Array:
        """Return deepbet's mask of a RAS+ array, or an empty one where it finds nothing."""
        network = self._network
        try:
            probability = network.run_model(data.copy())
        except (AssertionError, ValueError):
            # What deepbet raises where its first, coarse look finds no brain to box in.
            return np.zeros(data.shape, dtype=bool)
        if not (probability > 0.5).any():
            return np.zeros(data.shape, dtype=bool)
        return np.asarray(network.postprocess(probability > 0.5), dtype=bool)

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan with its brain mask, both in RAS+ order."""
        data = state.image.data
        voxel_ml = state.image.grid.voxel_volume_ml
        # The one computes beside the other, mostly outside the interpreter's lock.
        with ThreadPoolExecutor(max_workers=1) as pool:
            task = pool.submit(_filled_foreground, data)
            mask = self._find(data)
        foreground = task.result()
        flags = state.flags
        if mask.any() and foreground.sum() <= self.stripped_ratio * mask.sum():
            mask, flags = foreground, (*flags, "brain_already_extracted")
        volume = float(mask.sum() * voxel_ml)
        low, high = self.volume_range_ml
        if not low <= volume <= high:
            raise RefusedScanError(
                state.path,
                must_hold=f"the image must show a brain of {low:g} to {high:g} mL",
                found=f"{volume:.0f} mL that look like one",
                remedy="Give a T1w scan of a whole adult head; check its voxel sizes.",
            )
        result = state.image.same_grid(mask.astype(np.uint8))
        figures = {
            **state.figures,
            "brain_volume_ml": volume,
            "flat_end_cm2": flat_end_cm2(state.image, result),
        }
        return replace(state, brain_mask=result, figures=figures, flags=flags)


def _filled_foreground(data: Array) -> Array:
    """Return the largest connected part that differs from the background, holes filled."""
    background = data.flat[0]
    labels = cc3d.connected_components(data != background)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = labels == (int(sizes.argmax()) if sizes.any() else -1)
    return np.asarray(fill_voids.fill(largest), dtype=bool)
