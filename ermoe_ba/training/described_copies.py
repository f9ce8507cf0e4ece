"""Changed copies of scans as a trained stem describes them, kept under what they were made of.

Shapes: N scans, V copies of each, T tokens, F families of description, C tissue classes.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.dataset import PreparedCohort, PreparedScan
from ermoe_ba.io import write_whole
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.study import StudyScan
from ermoe_ba.t1w import content_hash
from ermoe_ba.training.age import changed_copies
from ermoe_ba.training.change_config import ChangeConfig
from ermoe_ba.training.recipe import Recipe


class DescribedCopies:
    """A folder of descriptions; what was asked for before is read, not made.

    Parameters
    ----------
    folder : Path
        Where they are kept.
    recipe : Recipe
        Of the network.
    stem : Path
        Weights of a trained stem (safetensors).
    cohort : PreparedCohort
        Prepares and reads the scans.
    """

    def __init__(self, folder: Path, recipe: Recipe, stem: Path, cohort: PreparedCohort) -> None:
        self.folder, self.recipe, self.stem, self.cohort = folder, recipe, stem, cohort

    def make(
        self, scans: Sequence[StudyScan], num_variants: int, seed: int, changes: ChangeConfig
    ) -> Tensor:
        """Return descriptions of changed copies.

        Parameters
        ----------
        scans : sequence of StudyScan
            N scans.
        num_variants : int
            Copies of each.
        seed : int
            Of the changes.
        changes : ChangeConfig
            Which, and how large.

        Returns
        -------
        Tensor, shape (N, num_variants, T, F, C)
            Half precision.
        """
        model = self.recipe.model
        what = {
            "stem": content_hash(self.stem),
            "scans": [content_hash(scan.t1w) for scan in scans],
            "preprocessing": self.recipe.preprocess.identity(),
            "tokens": [model.patch_size, model.token_min_brain],
            "copies": [num_variants, seed, asdict(changes)],
        }
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        # 64 bits tell more descriptions apart than there are.
        path = self.folder / f"{digest[:16]}_described.safetensors"
        if not path.is_file():
            network = ErmoeBrainAge(model, token_grid(model)).eval()
            network.stem.load_state_dict(load_file(self.stem))
            found = changed_copies(network.describe, self._read(scans), num_variants, seed, changes)
            write_whole(path, lambda partial: save_file({"copies": found}, partial))
        return load_file(path)["copies"]

    def _read(self, scans: Sequence[StudyScan]) -> Iterator[PreparedScan]:
        """Yield prepared scans one at a time: hundreds of them fill the memory."""
        for scan in scans:
            self.cohort.prepare(scan)
            yield self.cohort.read(scan)
