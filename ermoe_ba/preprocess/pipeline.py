"""The one preprocessing, as a MONAI Compose; prediction and training call the same object."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from monai.transforms import Compose, Transform

from ermoe_ba.assets import template
from ermoe_ba.errors import ScanError
from ermoe_ba.preprocess.brain import ExtractBrain
from ermoe_ba.preprocess.config import PreprocessConfig
from ermoe_ba.preprocess.geometry import ToGrid, ToRas, ToWorkingBox
from ermoe_ba.preprocess.intensity import CorrectBias, NormaliseIntensity, ToUnits
from ermoe_ba.preprocess.register import RegisterAffine
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import MODEL_GRID
from ermoe_ba.t1w import form_disagreement_mm, read_t1w


class LoadT1w(Transform):
    """Read the scan from its file, with all checks on header and voxels."""

    def __call__(self, state: ScanState) -> ScanState:
        """Return the scan on its own grid, in its own axis order."""
        image = read_t1w(state.path)
        figures = {
            **state.figures,
            "form_disagreement_mm": form_disagreement_mm(state.path),
            # Headers keep seven digits: edges of 2 mm read 2.0000001.
            "voxel_edge_mm": round(float(image.grid.voxel_sizes.max()), 4),
        }
        return replace(state, t1w=image, figures=figures)


class Preprocessor:
    """From a T1w file to intensities and brain mask on the model grid.

    Parameters
    ----------
    config : PreprocessConfig
        Settings.
    device : {"cpu", "cuda", "mps"}
        Where brain extraction computes.
    force : bool
        Go on with scans that have no T1 contrast.
    """

    def __init__(
        self, config: PreprocessConfig, device: str = "cpu", *, force: bool = False
    ) -> None:
        self.config = config
        self.steps = Compose(
            [
                LoadT1w(),
                ToRas(),
                ToUnits(),
                ExtractBrain(config.stripped_ratio, config.brain_volume_ml, device),
                ToWorkingBox(config.working_voxel_mm, config.working_shape),
                RegisterAffine(
                    template("desc-brain_T1w"),
                    config.affine_flatten_mm,
                    config.affine_blur_mm,
                    config.affine_steps,
                    config.affine_retry_below,
                ),
                ToGrid(MODEL_GRID),
                CorrectBias(config.n4_shrink_factor, config.n4_iterations, config.n4_tolerance),
                NormaliseIntensity(
                    template("label-WM_probseg"),
                    config.white_matter_certain,
                    config.white_matter_tolerance,
                    config.intensity_ceiling,
                    force=force,
                ),
            ]
        )

    def __call__(self, path: Path, announce: Callable[[str], None] | None = None) -> ScanState:
        """Preprocess one scan.

        Parameters
        ----------
        path : Path
            A NIfTI file.
        announce : callable, optional
            Told the name of each step before it starts.

        Returns
        -------
        ScanState
            `image` (float32, white matter 1, zero outside the brain's rim) and `mask` (uint8) on
            `MODEL_GRID`, the affine, figures and flags.

        Raises
        ------
        ScanError
            If the scan cannot be used, with what must hold, what was found and what to do.
        """
        result: object = ScanState(path=path)
        try:
            for number, step in enumerate(self.steps.transforms):
                if announce:
                    announce(type(step).__name__)
                result = self.steps(result, start=number, end=number + 1)
        except RuntimeError as error:
            # Compose wraps what a step raises; the user's error is its cause.
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, ScanError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None
        assert isinstance(result, ScanState)
        return result
