"""One fold's scans as all rows of an ablation see them.

Shapes: N training scans, M test scans, T tokens, F families of description, C tissue classes.
"""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ermoe_ba.config import changed
from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.errors import UsageError
from ermoe_ba.model.rivals.volume import VolumeNetwork
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.space import Array
from ermoe_ba.study import StudyScan, read_study
from ermoe_ba.training.age import AgeConfig, scan_variants
from ermoe_ba.training.change_config import UNCHANGED, USUAL
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.described_copies import DescribedCopies
from ermoe_ba.training.pretrain import Lessons, SimulatedScans
from ermoe_ba.training.pretrain_config import PretrainConfig
from ermoe_ba.training.ready_study import ReadyStudy
from ermoe_ba.training.recipe import Recipe
from ermoe_ba.training.region_targets import region_targets
from ermoe_ba.training.regional_volumes import label_volumes
from ermoe_ba.training.run_folder import SCANS, SPLITS, RunFolder, read_run_table
from ermoe_ba.training.run_part import fold_part
from ermoe_ba.training.simulated_people import simulated_people
from ermoe_ba.training.site_harmoniser import SiteHarmoniser

# What the descriptions that a fold keeps depend on, beside the changes of copies; the rest of a
# recipe may differ.
DESCRIBED_SETTINGS = {
    "run": ("num_folds", "seed", "split", "label_table", "stem"),
    "model": ("patch_size", "token_min_brain", "stem_hidden"),
    "age": ("num_variants",),
}


@dataclass(frozen=True)
class Inputs:
    """What a network is trained and tested on.

    Parameters
    ----------
    train : Tensor, shape (N, 1 + num_variants, ...)
        As `train_age` takes it.
    test : Tensor, shape (M, ...)
        The unchanged scans of those tested.
    """

    train: torch.Tensor
    test: torch.Tensor


class AblationFold:
    """A fold of a cross-validation's folder; its stem is trained only where none is kept.

    Parameters
    ----------
    recipe : Recipe
        The base of the ablation.
    participants_path : Path
        The participants table; only rows with an age take part.
    run : Path
        Folder of `cross-validate`, or one to be made.
    fold : int
        Which.
    described : Path
        Folder of what rows with other copies of the scans are trained on; they may share it.

    Raises
    ------
    UsageError
        If the folder holds a run whose scans this recipe would describe otherwise.
    """

    def __init__(
        self, recipe: Recipe, participants_path: Path, run: Path, fold: int, *, described: Path
    ) -> None:
        self.recipe, self.run, self.fold = recipe, run, fold
        kept = run / "kept" / f"fold-{fold}_described.safetensors"
        if kept.is_file():
            self._check_recipe()
        else:
            CrossValidation(recipe, participants_path, run).keep_described(fold)
        study = read_study(participants_path, recipe.run.t1w, recipe.run.labels)
        self.study = study
        splits = read_run_table(run / SPLITS)
        folds = splits.set_index("participant_id")["fold"]
        alone = set(folds.index) ^ {scan.participant_id for scan in study.scans}
        if alone:
            raise UsageError(
                f"{run / SPLITS}: must name the participants with an age of "
                f"{participants_path}; {len(alone)} stand in one of them alone."
            )
        # The order in which the scans' descriptions were kept.
        self.train_scans = [s for s in study.scans if folds[s.participant_id] != fold]
        self.test_scans = [s for s in study.scans if folds[s.participant_id] == fold]
        self.train_ages = _ages(self.train_scans)
        self.test_ages = _ages(self.test_scans)
        self.test_ids = [scan.participant_id for scan in self.test_scans]
        self._kept_path = kept
        self._seed = fold_part(recipe.run, fold).seed
        self.cohort = PreparedCohort(run / "prepared", Preprocessor(recipe.preprocess))
        stem = run / "kept" / f"fold-{fold}_stem.safetensors"
        self.stem_hash = hashlib.sha256(stem.read_bytes()).hexdigest()
        self._described = described
        self._copies = DescribedCopies(described, recipe, stem, self.cohort)

    def _check_recipe(self) -> None:
        kept, wanted = RunFolder(self.run).tables(), tomllib.loads(self.recipe.text)
        for table, names in DESCRIBED_SETTINGS.items():
            for name in names:
                self._check_equal(f"{table}.{name}", kept[table].get(name), wanted[table].get(name))
        self._check_equal("tissue", kept.get("tissue"), wanted.get("tissue"))
        changes = (changed(USUAL, found["age"].get("changes", {})) for found in (kept, wanted))
        self._check_equal("age.changes", *changes)

    def _check_equal(self, name: str, kept: Any, wanted: Any) -> None:
        if kept != wanted:
            raise UsageError(
                f"{self.run}: its stems were trained with {name} = {kept!r}, the recipe asks for "
                f"{wanted!r}. Take another run, or none to train them anew."
            )

    @cached_property
    def _kept(self) -> dict[str, torch.Tensor]:
        return load_file(self._kept_path)

    def described(self, config: AgeConfig) -> Inputs:
        """Return tokens as the fold's stem describes them, shapes (..., T, F, C).

        Parameters
        ----------
        config : AgeConfig
            Says what the training scans are changed into; copies unlike the base recipe's are
            described anew.

        Returns
        -------
        Inputs
            Training scans with their copies, and the test scans as they are.
        """
        train, test = self._kept["train"], self._kept["test"][:, 0].float()
        base = self.recipe.age
        if (config.num_variants, config.changes) != (base.num_variants, base.changes):
            unchanged = train[:, :1]
            if not config.num_variants:
                return Inputs(unchanged, test)
            copies = self._copies.make(
                self.train_scans, config.num_variants, self._seed, config.changes
            )
            train = torch.cat([unchanged, copies], dim=1)
        return Inputs(train, test)

    def moved(self, change: str) -> torch.Tensor:
        """Return the test scans with one change each, at the base recipe's size, (M, T, F, C).

        Parameters
        ----------
        change : str
            Name of a change of the base recipe's `ChangeConfig`.

        Returns
        -------
        Tensor, shape (M, T, F, C)
            Single precision, in the order of the test scans.
        """
        alone = self.recipe.age.changes.alone(change)
        return self._copies.make(self.test_scans, 1, self._seed, alone)[:, 0].float()

    def lessons(self, inputs: Inputs, config: AgeConfig, pretrain: PretrainConfig) -> Lessons:
        """Return what there is to learn before ages.

        Parameters
        ----------
        inputs : Inputs
            What `described` gives for the same settings of the age.
        config : AgeConfig
            Says what scans are changed into.
        pretrain : PretrainConfig
            Says what is needed.

        Returns
        -------
        Lessons
            Of the training scans, and of simulated people where these are asked for.

        Raises
        ------
        UsageError
            If the recipe has no label maps, or as from `simulated_people`.
        """
        volumes, simulated = None, None
        if pretrain.volumes is not None:
            regions = self.recipe.run.regions(self.study.root)
            volumes = region_targets(label_volumes(self.train_scans, regions), regions)
        ready = ReadyStudy(self.study, read_run_table(self.run / SCANS), self.cohort)
        people = simulated_people(pretrain, ready, self._described / "phantom")
        if people is not None:
            scans = people.study.scans
            unchanged = self._copies.make(scans, 1, self._seed, UNCHANGED)
            copies = self._copies.make(scans, config.num_variants, self._seed, config.changes)
            simulated = SimulatedScans(
                described_nv=torch.cat([unchanged, copies], dim=1),
                ages_n=_ages(scans),
                participants=[scan.participant_id for scan in scans],
            )
        return Lessons(
            described_nv=inputs.train,
            participants=[scan.participant_id for scan in self.train_scans],
            volumes_nl=volumes,
            simulated=simulated,
        )

    def volumes(self, network: VolumeNetwork, config: AgeConfig) -> Inputs:
        """Return prepared scans as a convolutional network sees them, with the same changes.

        Parameters
        ----------
        network : VolumeNetwork
            Reduces the volumes.
        config : AgeConfig
            Says what training scans are changed into, and how often.

        Returns
        -------
        Inputs
            Training scans with their copies, and test scans as they are.
        """
        views = []
        for scans, variants in ((self.train_scans, config.num_variants), (self.test_scans, 0)):
            for scan in scans:
                self.cohort.prepare(scan)
            prepared = [self.cohort.read(scan) for scan in scans]
            views.append(
                scan_variants(network.reduced, prepared, variants, self._seed, config.changes)
            )
        return Inputs(views[0], views[1][:, 0].float())

    @cached_property
    def regional_volumes(self) -> tuple[Array, Array]:
        """Shares of the labelled regions for training and test scans, shape (N, regions) each.

        Raises
        ------
        UsageError
            If the recipe has no label maps.
        """
        labels = sorted(self.recipe.run.tissues(self.study.root))
        train, test = (label_volumes(s, labels) for s in (self.train_scans, self.test_scans))
        return train, test

    def harmonised_volumes(self) -> tuple[Array, Array]:
        """`regional_volumes` by ComBat, which learns of the training scans alone.

        Returns
        -------
        ndarray, ndarray
            Of the training and of the test scans.

        Raises
        ------
        UsageError
            If the participants table has no ``site``, or as from `SiteHarmoniser`.
        """
        if "site" not in self.study.table:
            raise UsageError("harmonise: the participants table must have a column site.")
        site_of = self.study.table["site"].astype(str)
        train_sites, test_sites = (
            [site_of[scan.participant_id] for scan in scans]
            for scans in (self.train_scans, self.test_scans)
        )
        train, test = self.regional_volumes
        combat = SiteHarmoniser().fit(train, train_sites, self.train_ages)
        return combat.transform(train, train_sites), combat.transform(test, test_sites)


def _ages(scans: Sequence[StudyScan]) -> Array:
    return np.array([scan.chronological_age for scan in scans])
