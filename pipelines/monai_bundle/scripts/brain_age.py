"""The shipped ensemble as one network: a preprocessed scan in, its age out.

Shapes: B scans, I J K voxels of the model grid.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ermoe_ba.checkpoint import load_ensemble


class BrainAgeEnsemble(nn.Module):
    """All members of a model; the age is their mean.

    Parameters
    ----------
    folder : str
        Of the model: ``model.json`` and ``fold-*.safetensors``.

    Raises
    ------
    UsageError
        If the folder holds no model of the installed version of ermoe_ba.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.ensemble = load_ensemble(str(Path(folder).resolve()))
        self.members = nn.ModuleList(self.ensemble.members)

    def forward(self, t1w_b1ijk: Tensor) -> Tensor:
        """Return predicted ages in years, shape (B, 1).

        Parameters
        ----------
        t1w_b1ijk : Tensor
            Intensities as `ermoe_ba.preprocess.Preprocessor` leaves them: on the model grid, white
            matter 1, nothing outside the brain.
        """
        ages_mb = torch.stack([member(t1w_b1ijk[:, 0]).age_b for member in self.members])
        return ages_mb.mean(dim=0)[:, None]
