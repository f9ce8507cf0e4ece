"""Would other tokens tell ages better? Ridge starts on finer ones, true ones and simulated ones.

Command: python pipelines/token_trial.py RUN DATA [--fold K ...]
Input:   RUN, a finished `ermoe-ba cross-validate` of `ixi_hh.toml` with the stems that it kept;
         DATA/participants.tsv with scans and label maps, as the recipe of RUN names them.
Time:    about half an hour of one core for five folds, most of it for describing finer tokens.
Result:  printed, for each row: MAE in years of the ages out of fold that a read-out without experts
         has at its ridge start, without changed copies, with a 95 % bootstrap interval over
         participants, and the paired difference to the shipped tokens.
         ``12 mm``, ``8 mm``: smaller patches, whose read-outs are alike over as many millimetres.
         ``label maps``: each person's own label map in the place of what the stem says, in training
         and testing alike: what a stem without fault would be worth.
         ``simulated scans too``: each training scan once more, simulated from its label map with
         another contrast and noise, and as old as the scan.
         Nothing is chosen by these figures; who chooses by them must say so.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from error_table import print_errors
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter
from torch import Tensor
from tqdm import tqdm

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.dataset import PreparedCohort, PreparedScan
from ermoe_ba.model.config import TISSUES
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.model.rivals.roster import make_dense
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.space import Array
from ermoe_ba.study import read_study
from ermoe_ba.training.content_centre import centre_on
from ermoe_ba.training.readout_start import start_readouts
from ermoe_ba.training.recipe import Recipe, read_recipe
from ermoe_ba.training.run_folder import SPLITS, read_run_table
from ermoe_ba.training.tissue import tissue_classes

# Edges in voxels of 2 mm.
PATCH_SIZES = (8, 6, 4)
# A label map has no mixed voxels. A Gaussian of 0.6 voxels gives a voxel beside a flat border a
# sixth of what lies across, about what its own sharpness leaves of a scan.
MIXING_VOXELS = 0.6
# Of a simulated scan, relative to white matter: how far a tissue's intensity moves, a quarter of
# the contrast of grey and white matter; and white noise, as much as the stem was taught with.
CONTRAST_SD = 0.05
NOISE_SD = 0.05

Describe = Callable[[PreparedScan], Tensor]


class Describer:
    """Describes scans by patches of one size, through a fold's stem or through label maps.

    Parameters
    ----------
    recipe : Recipe
        Of the run.
    stem : Path
        Weights of the fold's stem.
    patch_size : int
        Edge of a patch in voxels.
    tissue_of_label : dict
        Name from `TISSUES` for each label.
    """

    def __init__(
        self, recipe: Recipe, stem: Path, patch_size: int, tissue_of_label: dict[int, str]
    ) -> None:
        # Read-outs are alike over a length in tokens: over as many millimetres whatever the patch.
        finer = recipe.model.patch_size / patch_size
        self.length = recipe.age.readout_length * finer
        self.config = replace(recipe.model, patch_size=patch_size)
        self.network = ErmoeBrainAge(self.config, token_grid(self.config)).eval()
        self.network.stem.load_state_dict(load_file(stem))
        self.tissue_of_label = tissue_of_label

    def by_stem(self, scan: PreparedScan) -> Tensor:
        """Describe a scan as the model does, shape (T, F, C)."""
        return self.network.describe(_intensities(scan))[0]

    def by_labels(self, scan: PreparedScan) -> Tensor:
        """Describe a scan by its own label map, shape (T, F, C)."""
        patches = self.network.patches
        true_cijk = np.stack(
            [gaussian_filter(share, MIXING_VOXELS) for share in self._one_hot(scan)]
        )
        tissue = patches.gather(patches.box(torch.as_tensor(true_cijk)[None]))
        return patches.describe(tissue, patches.box(_intensities(scan)))[0]

    def simulated(self, scan: PreparedScan) -> Tensor:
        """Describe a scan that is simulated from the label map of one, shape (T, F, C)."""
        assert scan.labels is not None
        random = np.random.default_rng(int(np.asarray(scan.labels.data, dtype=np.int64).sum()))
        t1w = np.asarray(scan.t1w.data)
        signal = np.zeros_like(t1w)
        for inside in self._one_hot(scan).astype(bool):
            level = float(np.median(t1w[inside])) if inside.any() else 0.0
            signal[inside] = level + CONTRAST_SD * random.standard_normal()
        # What lies outside the brain stays as it was scanned.
        outside = self._one_hot(scan)[TISSUES.index("outside")] > 0
        signal = gaussian_filter(np.where(outside, t1w, signal), MIXING_VOXELS)
        signal += NOISE_SD * random.standard_normal(signal.shape, dtype=np.float32)
        return self.network.describe(torch.as_tensor(signal, dtype=torch.float32)[None])[0]

    def start(self, described_ntfc: Tensor, ages_n: Array, recipe: Recipe) -> AdditiveReadout:
        """Return a read-out without experts, started at the ridge regression of ages in years."""
        torch.manual_seed(recipe.run.seed)
        readout = make_dense("additive", self.config, token_grid(self.config)).eval()
        assert isinstance(readout, AdditiveReadout)
        ages = torch.as_tensor(ages_n, dtype=torch.float32)
        centre_on(readout, described_ntfc, ages, recipe.age.spread_floor)
        strength = recipe.age.ridge_strength
        start_readouts(readout, described_ntfc[:, None], ages_n, strength, 0.0, length=self.length)
        return readout

    def _one_hot(self, scan: PreparedScan) -> Array:
        assert scan.labels is not None
        classes = tissue_classes(np.asarray(scan.labels.data), self.tissue_of_label)
        return np.stack([classes == number for number in range(len(TISSUES))]).astype(np.float32)


def _intensities(scan: PreparedScan) -> Tensor:
    return torch.as_tensor(np.asarray(scan.t1w.data, dtype=np.float32))[None]


@torch.no_grad()
def fold_ages(
    recipe: Recipe,
    stem: Path,
    tissues: dict[int, str],
    *,
    scans: list[PreparedScan],
    age_n: Array,
    test_n: Array,
) -> dict[str, Array]:
    """Return the ages in years that each row gives the scans that a fold tests."""

    def predicted(describer: Describer, found_ntfc: Tensor, more_ntfc: Tensor | None) -> Array:
        train, ages = found_ntfc[~test_n], age_n[~test_n]
        if more_ntfc is not None:
            train, ages = torch.cat([train, more_ntfc]), np.tile(ages, 2)
        readout = describer.start(train, ages, recipe)
        return np.asarray(readout.read_age(found_ntfc[test_n]).numpy(), dtype=float)

    def described(describe: Describe, chosen: list[PreparedScan], name: str) -> Tensor:
        return torch.stack([describe(scan) for scan in tqdm(chosen, desc=name, leave=False)])

    rows: dict[str, Array] = {}
    for size in PATCH_SIZES:
        describer, name = Describer(recipe, stem, size, tissues), f"{2 * size} mm"
        found_ntfc = described(describer.by_stem, scans, name)
        rows[name] = predicted(describer, found_ntfc, None)
        if size == recipe.model.patch_size:
            true_ntfc = described(describer.by_labels, scans, "label maps")
            rows["label maps"] = predicted(describer, true_ntfc, None)
            seen = [scan for scan, test in zip(scans, test_n, strict=True) if not test]
            more_ntfc = described(describer.simulated, seen, "simulated scans")
            rows["simulated scans too"] = predicted(describer, found_ntfc, more_ntfc)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--fold", type=int, nargs="+", help="these folds alone")
    options = parser.parse_args()
    recipe = read_recipe(Path(__file__).with_name("ixi_hh.toml"))
    study = read_study(options.data / "participants.tsv", recipe.run.t1w, recipe.run.labels)
    people = np.array([scan.participant_id for scan in study.scans])
    age_n = np.array([scan.chronological_age for scan in study.scans])
    fold_n = read_run_table(options.run / SPLITS).set_index("participant_id")["fold"][people]
    cohort = PreparedCohort(options.run / "prepared", Preprocessor(recipe.preprocess))
    scans = [cohort.read(scan) for scan in tqdm(study.scans, desc="read", unit="scan")]
    tissues = recipe.run.tissues(study.root)

    rows: dict[str, Array] = {}
    asked = sorted(set(fold_n)) if options.fold is None else options.fold
    for fold in tqdm(asked, unit="fold"):
        test_n = fold_n.to_numpy() == fold
        stem = options.run / "kept" / f"fold-{fold}_stem.safetensors"
        for name, found in fold_ages(
            recipe, stem, tissues, scans=scans, age_n=age_n, test_n=test_n
        ).items():
            rows.setdefault(name, np.full(len(people), np.nan))[test_n] = found
    tested = fold_n.isin(asked).to_numpy()
    shown = {name: found[tested] for name, found in rows.items()}
    print_errors(shown, age_n[tested], people[tested], "16 mm")


if __name__ == "__main__":
    main()
