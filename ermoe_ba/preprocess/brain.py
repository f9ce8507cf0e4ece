"""Brain extraction by deepbet, and the recognition of scans that were extracted before."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import cc3d
import fill_voids
import numpy as np
from monai.transforms import Transform
from torch import Tensor

from ermoe_ba.errors import RefusedScanError
from ermoe_ba.preprocess.field_of_view import flat_end_cm2
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import Array, Volume

# How much empty border deepbet sees at most, mm. It scales by the grey levels of all it sees and
# samples that box coarsely: half the image's size in zeros on every side moved an age by 1.5 years.
# The 144 heads of the training cohort have up to 8 mm, and are seen whole.
BORDER_MM = 8.0


class FirstLook:
    """Deepbet's first, coarse look, and what it saw beside the brain that deepbet then boxes in.

    Parameters
    ----------
    network : callable
        Of deepbet: from an image, shape (1, 1, I, J, K), to scores of shape (1, 2, I, J, K).
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self._network = network
        self.second_share = 0.0

    def __call__(self, image: Tensor) -> Tensor:
        """Look, and remember the second largest connected part as a share of the image."""
        scores = self._network(image)
        brains = (scores[0, 1] > 0.5).cpu().numpy()
        sizes = np.sort(np.bincount(cc3d.connected_components(brains).ravel())[1:])
        self.second_share = float(sizes[-2]) / brains.size if len(sizes) > 1 else 0.0
        return scores


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

        network = BrainExtraction(no_gpu=self.device == "cpu")
        network.bbox_model = FirstLook(network.bbox_model)
        return network

    def _find(self, image: Volume) -> tuple[Array, float]:
        """Return deepbet's mask of a scan in RAS+ order, and how large another brain beside it is.

        The mask is empty, and there is no other brain, where it finds nothing.
        """
        network, mask = self._network, np.zeros(image.data.shape, dtype=bool)
        inside = _without_padding(image)
        shown = image.data[inside].copy()
        try:
            probability = network.run_model(shown)
        except (AssertionError, ValueError):
            # What deepbet raises where its first, coarse look finds no brain to box in.
            return mask, 0.0
        if (probability > 0.5).any():
            mask[inside] = network.postprocess(probability > 0.5)
        shown_ml = shown.size * image.grid.voxel_volume_ml
        return mask, network.bbox_model.second_share * shown_ml

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan with its brain mask, both in RAS+ order."""
        data = state.image.data
        voxel_ml = state.image.grid.voxel_volume_ml
        # The one computes beside the other, mostly outside the interpreter's lock.
        with ThreadPoolExecutor(max_workers=1) as pool:
            task = pool.submit(_filled_foreground, data)
            mask, second_ml = self._find(state.image)
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
                remedy="Give a T1w scan of one whole adult head; check its voxel sizes.",
            )
        result = state.image.same_grid(mask.astype(np.uint8))
        figures = {
            **state.figures,
            "brain_volume_ml": volume,
            "second_brain_ml": float(second_ml),
            "flat_end_cm2": flat_end_cm2(state.image, result),
        }
        return replace(state, brain_mask=result, figures=figures, flags=flags)


def _without_padding(image: Volume) -> tuple[slice, ...]:
    """Return the box of all voxels with a signal, and at most `BORDER_MM` around it."""
    shown = image.data > 0
    box = []
    for axis, size in enumerate(image.grid.voxel_sizes):
        ends = np.flatnonzero(shown.any(axis=tuple(other for other in range(3) if other != axis)))
        border = round(BORDER_MM / float(size))
        first, last = (ends[0], ends[-1]) if ends.size else (0, shown.shape[axis] - 1)
        box.append(slice(max(0, int(first) - border), int(last) + border + 1))
    return tuple(box)


def _filled_foreground(data: Array) -> Array:
    """Return the largest connected part that differs from the background, holes filled."""
    background = data.flat[0]
    labels = cc3d.connected_components(data != background)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = labels == (int(sizes.argmax()) if sizes.any() else -1)
    return np.asarray(fill_voids.fill(largest), dtype=bool)
