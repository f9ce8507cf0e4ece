"""Affine registration of a brain to the template."""

import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.transforms import Transform

from ermoe_ba.preprocess.ants_bridge import affine_of, to_ants
from ermoe_ba.preprocess.geometry import own_axes
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import Array, SpatialGrid, Volume


class RegisterAffine(Transform):
    """Find the 12-parameter affine from the scan to the template (ANTs, Avants 2011).

    The metric is global correlation, not mutual information: with several threads the sums of
    ANTs' mutual information, and so its affines, change from run to run (half a percent in scale).

    Parameters
    ----------
    brain : Volume
        The template's brain without skull, on the model grid.
    shrink_factors, smoothing_sigmas, iterations : tuple
        One entry a resolution level; sigmas in voxels of that level.
    """

    def __init__(
        self,
        brain: Volume,
        shrink_factors: tuple[int, ...],
        smoothing_sigmas: tuple[int, ...],
        iterations: tuple[int, ...],
    ) -> None:
        self.brain = brain
        self.shrink_factors = shrink_factors
        self.smoothing_sigmas = smoothing_sigmas
        self.iterations = iterations

    # Above this turn (degrees) between the scan's axes and the world's, either may be nearer to the
    # head's: a header can be wrong, and a field of view can be tilted on purpose. From the world's
    # axes alone, a header turned by 45 degrees gave one head 107 years for 83. Ten is a guess: more
    # than a head is tilted by chance, far less than what failed.
    OBLIQUE = 10.0
    # The world's axes must be that much more like the template (correlation), lest two nearly equal
    # results take turns.
    MARGIN = 0.02

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan with its affine to the template; voxels stay where they are."""
        moving = state.image.same_grid(state.image.data * (state.mask.data > 0))
        turn = own_axes(moving.grid)
        affine, correlation = self._from(moving, turn)
        degrees = np.degrees(np.arccos(np.clip((np.trace(turn) - 1.0) / 2.0, -1.0, 1.0)))
        if degrees > self.OBLIQUE:
            other, likeness = self._from(moving, np.eye(3))
            if likeness > correlation + self.MARGIN:
                affine, correlation = other, likeness
        return replace(
            state,
            scan_to_template=affine,
            figures={**state.figures, "template_correlation": correlation},
        )

    def _from(self, moving: Volume, turn: Array) -> tuple[Array, float]:
        """Register from a pose: the scan turned back by a rotation; its affine and likeness."""
        import ants

        back = nib.affines.from_matvec(turn.T)
        grid = SpatialGrid(moving.grid.shape, back @ moving.grid.affine, moving.grid.space)
        with tempfile.TemporaryDirectory() as folder:
            found = ants.registration(
                to_ants(self.brain),
                to_ants(Volume(moving.data, grid)),
                type_of_transform="Affine",
                outprefix=str(Path(folder) / "affine"),
                aff_metric="GC",
                aff_random_sampling_rate=1.0,
                aff_shrink_factors=self.shrink_factors,
                aff_smoothing_sigmas=self.smoothing_sigmas,
                aff_iterations=self.iterations,
            )
            # ITK maps points of the fixed image (template) to the moving one (scan).
            template_to_scan = affine_of(ants.read_transform(found["fwdtransforms"][0]))
        inside = self.brain.data > 0
        warped = found["warpedmovout"].numpy()[inside]
        # A brain that was moved out of the template altogether is flat there: likeness 0.
        flat = float(np.std(warped)) == 0.0
        correlation = 0.0 if flat else float(np.corrcoef(warped, self.brain.data[inside])[0, 1])
        return np.linalg.inv(template_to_scan) @ back, correlation
