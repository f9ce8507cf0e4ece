"""Phantom subjects as preprocessing hands scans to a network: no file, no search for the brain."""

from functools import cached_property
from pathlib import Path

import numpy as np

from ermoe_ba.assets import atlas_root
from ermoe_ba.atlas import DEFAULT_ATLAS, registry
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.io import read_volume
from ermoe_ba.phantom.anatomy import Anatomy, template_anatomy
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.latents import draw_subject
from ermoe_ba.phantom.shape import Shaper
from ermoe_ba.phantom.subject import scan_subject
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor
from ermoe_ba.preprocess.geometry import ToGrid, ToWorkingBox
from ermoe_ba.preprocess.intensity import CorrectBias, NormaliseIntensity
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Array, Volume

# Of the preprocessing, what changes values and what moves voxels. Brain mask and affine are known
# in a phantom, so they are not estimated: nine tenths of the time, and a source of error that says
# nothing of the network's maps.
STEPS = (ToWorkingBox, CorrectBias, ToGrid, NormaliseIntensity)


class PhantomScans:
    """The subjects of a phantom cohort on the model grid, made when they are asked for.

    Parameters
    ----------
    config : PhantomConfig
        The cohort.
    preprocess : PreprocessConfig
        What a network's scans go through.
    """

    def __init__(self, config: PhantomConfig, preprocess: PreprocessConfig) -> None:
        self.config, self.preprocess = config, preprocess

    @cached_property
    def anatomy(self) -> Anatomy:
        """The brain at rest that all subjects are shaped from."""
        path = atlas_root() / registry()[DEFAULT_ATLAS]["file"]
        return template_anatomy(read_volume(path, TEMPLATE_SPACE))

    @cached_property
    def _shaper(self) -> Shaper:
        return Shaper(self.anatomy)

    @cached_property
    def _steps(self) -> list[ToWorkingBox | CorrectBias | ToGrid | NormaliseIntensity]:
        all_steps = Preprocessor(self.preprocess).steps.transforms
        return [step for step in all_steps if isinstance(step, STEPS)]

    def scan(self, index: int) -> PreparedScan:
        """Make the scan of a subject.

        Parameters
        ----------
        index : int
            Number of the subject, from 1.

        Returns
        -------
        PreparedScan
            Its labels are the phantom's (int16), as they came out.
        """
        subject = draw_subject(self.config, index)
        made = scan_subject(self.config, subject, self._shaper)
        state = ScanState(
            path=Path(subject.participant_id),
            t1w=made.t1w,
            brain_mask=made.dseg.same_grid((made.dseg.data > 0).astype(np.uint8)),
            image_to_template=made.to_anatomy,
        )
        for step in self._steps:
            state = step(state)
        labels = resample(made.dseg, MODEL_GRID, order=0, to_grid_space=state.scan_to_template)
        return PreparedScan(
            participant_id=subject.participant_id,
            t1w=state.image,
            brain_mask=state.mask,
            labels=labels.same_grid(np.rint(labels.data).astype(np.int16)),
        )

    def planted_mask(self) -> Volume:
        """Return where the planted effect lies in the brain at rest.

        Returns
        -------
        Volume of uint8
            On the model grid: 1 in the planted regions, 0 elsewhere.
        """
        planted = [region.index for region in self.config.planted_regions()]
        inside = Volume(np.isin(self.anatomy.labels(), planted).astype(np.uint8), self.anatomy.grid)
        return on_model_grid(inside)

    def brain_mask(self) -> Volume:
        """Return the cavity of the brain at rest.

        Returns
        -------
        Volume of uint8
            On the model grid: 1 in the cavity, 0 elsewhere.
        """
        return on_model_grid(Volume(self.anatomy.cavity.astype(np.uint8), self.anatomy.grid))


def on_model_grid(part: Volume) -> Volume:
    """Lay a box of the model grid back into it, 0 around.

    Parameters
    ----------
    part : Volume
        On a part of the model grid: the same voxels, from another origin on.

    Returns
    -------
    Volume
        On the model grid, of the same type.
    """
    offset = np.linalg.inv(MODEL_GRID.affine) @ part.grid.affine[:, 3]
    start = np.rint(offset[:3]).astype(int)
    whole: Array = np.zeros(MODEL_GRID.shape, dtype=part.data.dtype)
    whole[tuple(slice(a, a + n) for a, n in zip(start, part.grid.shape, strict=True))] = part.data
    return Volume(whole, MODEL_GRID)
