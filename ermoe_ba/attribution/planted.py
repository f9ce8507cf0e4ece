"""Planted cohorts: phantom subjects as a stem describes them, and where their ageing lies.

Shapes: N subjects, T tokens, F families of description, C tissue classes.
"""

import hashlib
import json
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ermoe_ba.assets import atlas_root
from ermoe_ba.atlas import DEFAULT_ATLAS, registry
from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.io import read_volume, write_whole
from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.phantom.anatomy import Anatomy, template_anatomy
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.dataset import REVISION
from ermoe_ba.phantom.latents import draw_subject
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.phantom.shape import Shaper
from ermoe_ba.phantom.subject import scan_subject
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.preprocess.geometry import ToGrid, ToWorkingBox
from ermoe_ba.preprocess.intensity import CorrectBias, NormaliseIntensity
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Array, Volume

# Of the preprocessing, what changes values and what moves voxels. Brain mask and affine are known
# in a phantom, so they are not estimated: nine tenths of the time, and a source of error that says
# nothing of the network's maps.
STEPS = (ToWorkingBox, CorrectBias, ToGrid, NormaliseIntensity)


class PlantedCohort:
    """Subjects of a phantom cohort, described once and kept.

    The stem was taught tissue on scans of people and has never seen an age: what it describes is a
    fixed view of the brain.

    Parameters
    ----------
    config : PhantomConfig
        The cohort.
    ensemble : Ensemble
        Its first member's stem describes the subjects.
    folder : Path
        Where descriptions are kept, a subfolder for each cohort and stem.
    """

    def __init__(self, config: PhantomConfig, ensemble: Ensemble, folder: Path) -> None:
        self.config, self.ensemble = config, ensemble
        what = [config.describe(), REVISION, ensemble.model_id, ensemble.card.preprocessing_id]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        self.folder = folder / digest[:16]

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
        all_steps = Preprocessor(self.ensemble.card.preprocess).steps.transforms
        return [step for step in all_steps if isinstance(step, STEPS)]

    def ages(self, count: int) -> Array:
        """Return the chronological ages of the first subjects in years, shape (N,)."""
        return np.array([draw_subject(self.config, n).age for n in range(1, count + 1)])

    def described(self, count: int) -> Tensor:
        """Return the descriptions of the first subjects, made where they are missing.

        Parameters
        ----------
        count : int
            N.

        Returns
        -------
        Tensor, shape (N, T, F, C)
            float32; rounded to half precision, as training keeps them.
        """
        rows = []
        for index in tqdm(range(1, count + 1), desc="subjects", unit="subject"):
            path = self.folder / f"sub-{index:06d}.safetensors"
            if not path.is_file():
                made = {"described": self._describe(index).contiguous()}
                write_whole(path, partial(save_file, made))
            rows.append(load_file(path)["described"])
        return torch.stack(rows).float()

    def stem_follows(self, described_ntfc: Tensor, tissue: str, share_t: Array) -> float:
        """Return how well the stem sees what was planted: no network on top of it can see more.

        Parameters
        ----------
        described_ntfc : Tensor
            From `described`.
        tissue : str
            The class of the stem that the planted regions belong to, one of `TISSUES`.
        share_t : ndarray, shape (T,)
            Share of each token's brain that lies in the planted regions.

        Returns
        -------
        float
            Correlation over the subjects of the planted volume, as a share of the cavity, with the
            stem's share of the tissue, summed over tokens by `share_t`.
        """
        channel = TISSUES.index(tissue)
        found_nt = described_ntfc[:, :, list(FAMILIES).index("fraction"), channel].numpy()
        planted = [region in self.config.planted_regions() for region in REGIONS]
        subjects = [draw_subject(self.config, n) for n in range(1, len(found_nt) + 1)]
        volumes = [s.planted_ml[planted].sum() / s.intracranial_ml for s in subjects]
        return float(np.corrcoef(found_nt @ share_t, volumes)[0, 1])

    @torch.no_grad()
    def _describe(self, index: int) -> Tensor:
        """Make a subject's scan and describe it, shape (T, F, C)."""
        scan = scan_subject(self.config, draw_subject(self.config, index), self._shaper)
        state = ScanState(
            path=self.folder / f"sub-{index:06d}",
            t1w=scan.t1w,
            brain_mask=scan.dseg.same_grid((scan.dseg.data > 0).astype(np.uint8)),
            image_to_template=scan.to_anatomy,
        )
        for step in self._steps:
            state = step(state)
        t1w = torch.as_tensor(state.image.data, dtype=torch.float32)
        return self.ensemble.members[0].describe(t1w[None])[0].half()

    def planted_mask(self) -> Volume:
        """Return where the planted effect lies in the brain at rest: uint8, on the model grid."""
        planted = [region.index for region in self.config.planted_regions()]
        inside = Volume(np.isin(self.anatomy.labels(), planted).astype(np.uint8), self.anatomy.grid)
        return on_model_grid(inside)

    def brain_mask(self) -> Volume:
        """Return the cavity of the brain at rest: uint8, on the model grid."""
        return on_model_grid(Volume(self.anatomy.cavity.astype(np.uint8), self.anatomy.grid))


def on_model_grid(part: Volume) -> Volume:
    """Lay a box of the model grid back into it, 0 around."""
    offset = np.linalg.inv(MODEL_GRID.affine) @ part.grid.affine[:, 3]
    start = np.rint(offset[:3]).astype(int)
    whole: Array = np.zeros(MODEL_GRID.shape, dtype=part.data.dtype)
    whole[tuple(slice(a, a + n) for a, n in zip(start, part.grid.shape, strict=True))] = part.data
    return Volume(whole, MODEL_GRID)
