"""Planted cohorts: phantom subjects as a stem describes them.

Shapes: N subjects, V changed copies of each, T tokens, F families of description, C tissue classes.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ermoe_ba.attribution.phantom_scans import PhantomScans
from ermoe_ba.io import write_whole
from ermoe_ba.model.config import TISSUES
from ermoe_ba.model.ermoe import FRACTION, ErmoeBrainAge
from ermoe_ba.phantom.dataset import REVISION
from ermoe_ba.phantom.latents import draw_subject
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.space import Array
from ermoe_ba.training.age import AgeConfig, scan_variants


@dataclass(frozen=True)
class Describer:
    """A stem that describes scans. It knows tissue, and has never seen an age.

    Parameters
    ----------
    network : ErmoeBrainAge
        Of which the stem alone is asked.
    identity : str
        Equal where the same scans come out described alike: for equal stems on equal tokens alone.
    """

    network: ErmoeBrainAge
    identity: str


class PlantedCohort:
    """Subjects of a phantom cohort, described once and kept.

    Parameters
    ----------
    scans : PhantomScans
        The cohort.
    describer : Describer
        Describes the subjects.
    age : AgeConfig
        Says how many changed copies there are, and how they are changed.
    folder : Path
        Where descriptions are kept, a subfolder for each cohort, stem and number of copies.
    """

    def __init__(
        self, scans: PhantomScans, describer: Describer, age: AgeConfig, folder: Path
    ) -> None:
        self.scans, self.config, self.describer = scans, scans.config, describer
        self.age = age
        how = [age.num_variants, asdict(age.changes)]
        self.folder = folder / digest(scans, describer.identity, *how)

    def ages(self, count: int) -> Array:
        """Return the chronological ages of the first subjects.

        Parameters
        ----------
        count : int
            N.

        Returns
        -------
        ndarray, shape (N,)
            In years.
        """
        return np.array([draw_subject(self.config, n).age for n in range(1, count + 1)])

    def described(self, count: int) -> Tensor:
        """Return the descriptions of the first subjects, made where they are missing.

        Parameters
        ----------
        count : int
            N.

        Returns
        -------
        Tensor, shape (N, 1 + V, T, F, C)
            float32; rounded to half precision, as training keeps them. The unchanged scan first.
        """
        rows = []
        for index in tqdm(range(1, count + 1), desc="subjects", unit="subject"):
            path = self.folder / f"sub-{index:06d}.safetensors"
            if not path.is_file():
                scan, age = self.scans.scan(index), self.age
                see = self.describer.network.describe
                # The subject's own number: its copies do not depend on who came before it.
                found = scan_variants(see, [scan], age.num_variants, index, age.changes)
                write_whole(path, partial(save_file, {"described": found[0].contiguous()}))
            rows.append(load_file(path)["described"])
        return torch.stack(rows).float()

    def stem_follows(self, described_ntfc: Tensor, tissue: str, share_t: Array) -> float:
        """Return how well the stem sees what was planted: no network on top of it can see more.

        Parameters
        ----------
        described_ntfc : Tensor
            The unchanged scans, from `described`.
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
        found_nt = described_ntfc[:, :, FRACTION, channel].numpy()
        planted = [region in self.config.planted_regions() for region in REGIONS]
        subjects = [draw_subject(self.config, n) for n in range(1, len(found_nt) + 1)]
        volumes = [s.planted_ml[planted].sum() / s.intracranial_ml for s in subjects]
        return float(np.corrcoef(found_nt @ share_t, volumes)[0, 1])


def digest(scans: PhantomScans, *more: Any) -> str:
    """Return a name for what is made of a phantom's scans: of settings, revisions and what else.

    Parameters
    ----------
    scans : PhantomScans
        The phantom, by its settings and its preprocessing.
    *more : Any
        Whatever else decides about the result; values that JSON can hold.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    what = [scans.config.describe(), REVISION, scans.preprocess.identity(), *more]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
