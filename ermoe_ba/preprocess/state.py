"""What is known of a scan on its way from the scanner's space to the model grid."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ermoe_ba.space import Array, Volume


@dataclass(frozen=True, kw_only=True)
class ScanState:
    """One scan between two preprocessing steps.

    Parameters
    ----------
    path : Path
        The file it came from.
    t1w : Volume, optional
        Intensities on the current grid (first the scan's own, last the model grid).
    brain_mask : Volume, optional
        1 in the brain, 0 elsewhere, on the grid of `t1w`.
    scan_to_image : ndarray, shape (4, 4)
        Affine from the scan's RAS+ coordinates to those that `t1w` lies in, in mm.
    image_to_template : ndarray, shape (4, 4), optional
        Affine from the coordinates of `t1w` before it lies on the model grid to the template's.
    scan_to_template : ndarray, shape (4, 4), optional
        Affine from the scan's RAS+ coordinates to the template's, in mm.
    figures : dict
        Measured on the way: name to number, units in the name.
    flags : tuple of str
        Quality remarks, in the words of the column ``qc_flags``.
    """

    path: Path
    t1w: Volume | None = None
    brain_mask: Volume | None = None
    scan_to_image: Array = field(default_factory=lambda: np.eye(4))
    image_to_template: Array | None = None
    scan_to_template: Array | None = None
    figures: dict[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def image(self) -> Volume:
        """The intensities; a step that comes before loading cannot ask for them.

        Raises
        ------
        ValueError
            If the scan has not been loaded.
        """
        if self.t1w is None:
            raise ValueError("The scan has not been loaded yet: LoadT1w must come first.")
        return self.t1w

    @property
    def mask(self) -> Volume:
        """The brain mask; a step that comes before brain extraction cannot ask for it.

        Raises
        ------
        ValueError
            If the brain has not been extracted.
        """
        if self.brain_mask is None:
            raise ValueError("The brain is not known yet: ExtractBrain must come first.")
        return self.brain_mask
