"""Cross-validated training: members for each fold, tested on the people they never saw."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.cohort import Participants
from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.intervals import smallest_cohort
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.splits import fold_column, make_splits, read_splits
from ermoe_ba.study import Study, read_study
from ermoe_ba.tables import write_table
from ermoe_ba.training.assemble import assemble
from ermoe_ba.training.part import PartTrainer, Side
from ermoe_ba.training.processes import Processes
from ermoe_ba.training.ready_study import ReadyStudy, make_ready
from ermoe_ba.training.recipe import Recipe
from ermoe_ba.training.run_folder import SCANS, SPLITS, RunFolder
from ermoe_ba.training.run_part import Part, fold_part
from ermoe_ba.training.simulated_people import simulated_people
from ermoe_ba.training_scans import keep_training_scans

# A line through ages needs two.
MIN_LEARNT_FROM = 2


class CrossValidation:
    """A run in its folder: prepared scans, splits, members, out-of-fold predictions.

    Whatever stands in the folder already is not made again, so a run that was stopped goes on, and
    several processes can share the folds.

    Parameters
    ----------
    recipe : Recipe
        All choices.
    participants_path : Path
        The participants table; only people of known age take part.
    out : Path
        The run's folder.
    splits : Path, optional
        A table of folds in place of those that the recipe would draw.
    prepared : Path, optional
        Where prepared scans are kept; runs may share it. ``out / "prepared"`` by default.
    jobs : int
        Processes that prepare scans.
    skip_unusable : bool
        Go on without scans that cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        participants_path: Path,
        out: Path,
        *,
        splits: Path | None = None,
        prepared: Path | None = None,
        jobs: int = 1,
        skip_unusable: bool = False,
    ) -> None:
        self.recipe, self.folder = recipe, RunFolder(out)
        self.study = read_study(participants_path, recipe.run.t1w, recipe.run.labels)
        self.tokens = token_grid(recipe.model)
        self.trainer = PartTrainer(recipe, self.folder, self.tokens, self.study)
        self.cohort = PreparedCohort(prepared or out / "prepared", Preprocessor(recipe.preprocess))
        self._given, self._jobs, self._skip_unusable = splits, jobs, skip_unusable

    def run(self, only_fold: int | None = None) -> dict[str, Any] | None:
        """Train the folds and, once all are there, assemble the ensemble.

        Parameters
        ----------
        only_fold : int, optional
            Train this fold, of each repeat, and no other.

        Returns
        -------
        dict or None
            Out-of-fold metrics; None while folds are missing, and for all but the first of several
            processes.
        """
        run = self.recipe.run
        if only_fold is not None and not 0 <= only_fold < run.num_folds:
            raise UsageError(
                f"--fold must lie between 0 and {run.num_folds - 1}; found {only_fold}."
            )
        processes = Processes()
        # Of torchrun's processes, one makes what all of them read.
        with processes.accelerator.main_process_first():
            ready, folds, digest, simulated = self.prepare()
        everything = self.trainer.read(ready)
        parts = [
            (fold_part(run, fold, repeat), folds[fold_column(repeat)])
            for repeat in range(run.num_repeats)
            for fold in range(run.num_folds)
        ]
        for part, column in parts:
            if only_fold in (None, part.fold) and not self.folder.predictions(part).is_file():
                self.trainer.train(part, *split_sides(everything, column, part), simulated)
        spent = self.trainer.expenses.total
        if spent.scans and processes.is_main:
            tqdm.write(f"all stages: {spent}")
        # Another job may end its fold between the looks of two processes, which must go together;
        # and each has written its members before the first writes some of them anew.
        done = all(self.folder.predictions(part).is_file() for part, _ in parts)
        if not processes.of_first(done):
            return None
        processes.accelerator.wait_for_everyone()
        metrics = None
        if processes.is_main:
            keep_training_scans(self.folder.out, ready.scans, folds[fold_column(0)])
            metrics = assemble(self.recipe, self.folder, self.tokens, digest)
        processes.accelerator.wait_for_everyone()
        return metrics

    def prepare(self) -> tuple[ReadyStudy, pd.DataFrame, str, ReadyStudy | None]:
        """Make stand what all folds need, and train none: jobs that share them need not wait.

        Returns
        -------
        ready : ReadyStudy
            The study, its scans prepared.
        folds : DataFrame
            As `read_splits` gives them.
        digest : str
            Hash of the data.
        simulated : ReadyStudy or None
            Simulated people, where the recipe begins with them.

        Raises
        ------
        UsageError
            If scans cannot be used, or the folder is that of another run.
        """
        ready, folds, digest = self._begin()
        simulated = simulated_people(
            self.recipe.pretrain, ready, self.folder.phantom, jobs=self._jobs
        )
        return ready, folds, digest, simulated

    def keep_described(self, fold: int) -> None:
        """Train and keep the stem of a fold and what it describes, and leave the age for others.

        Parameters
        ----------
        fold : int
            Which, of the first repeat; what stands in the folder already is not made again.
        """
        ready, folds, _ = self._begin()
        part = fold_part(self.recipe.run, fold)
        sides = split_sides(self.trainer.read(ready), folds[fold_column(0)], part)
        self.trainer.describe(part, *sides)

    def _begin(self) -> tuple[ReadyStudy, pd.DataFrame, str]:
        """Make scans ready, the folder this run's, and the folds known."""
        self.folder.refuse_other(self.recipe)
        if not self._skip_unusable:
            # The same people will be left; of thousands, preparing takes days.
            self._refuse_unfit(self.study)
        ready = make_ready(
            self.study,
            self.cohort,
            self.folder.out,
            jobs=self._jobs,
            skip_unusable=self._skip_unusable,
        )
        # Scans that cannot be used may have left fewer people.
        self._refuse_unfit(ready.study)
        digest = self.folder.claim(self.recipe, ready.study)
        write_table(self.folder.out / SCANS, ready.scans)
        return ready, self._splits(ready.study.participants), digest

    def _refuse_unfit(self, study: Study) -> None:
        """Refuse people that the recipe cannot be run on, whatever their scans hold."""
        run, people = self.recipe.run, study.participants
        study.refuse_beyond(self.recipe.model.age_bounds)
        # Known at the end of the training; better at its beginning.
        if len(people.table) < smallest_cohort(run.coverage):
            raise UsageError(
                f"An interval of coverage {run.coverage:g}, as the recipe asks for, needs "
                f"{smallest_cohort(run.coverage)} participants or more; found "
                f"{len(people.table)}. State a smaller coverage in [run]."
            )
        if (self.folder.out / SPLITS).is_file():
            # Of an earlier start, which was fit.
            return
        folds = self._folds(people)
        largest = max(int(folds[column].value_counts().max()) for column in folds)
        left = _fewest_learnt_from(self.recipe, len(people.table) - largest)
        if left < MIN_LEARNT_FROM:
            raise UsageError(
                f"Each training must learn from {MIN_LEARNT_FROM} participants or more; of "
                f"{len(people.table)}, the largest fold ({largest}) and what the recipe sets aside "
                f"within the others leave {left}. Give more participants, or other folds, or "
                "state a smaller validation_share."
            )

    def _folds(self, participants: Participants) -> pd.DataFrame:
        """Return the folds that the user gave, or draw them."""
        run = self.recipe.run
        if self._given is not None:
            return read_splits(self._given, participants, run.num_folds, run.num_repeats)
        return make_splits(participants, run.split, run.num_folds, run.num_repeats, run.seed)

    def _splits(self, participants: Participants) -> pd.DataFrame:
        """Return the folds of each participant: given or drawn once, then read."""
        run, path = self.recipe.run, self.folder.out / SPLITS
        if not path.is_file():
            write_table(path, self._folds(participants).reset_index())
        there = read_splits(path, participants, run.num_folds, run.num_repeats)
        if self._given is not None and not there.equals(self._folds(participants).loc[there.index]):
            raise UsageError(
                f"{path}: the run was begun with other folds than those of {self._given}; "
                "choose another --out."
            )
        return there


def _fewest_learnt_from(recipe: Recipe, people: int) -> int:
    """Return from how many of a fold's people its smallest training learns, at most."""
    if recipe.choose is not None:
        # Inner folds may be less even than that.
        people -= math.ceil(people / recipe.choose.num_folds)
    aside = max(age.validation_share for age in recipe.age_alternatives().values())
    return people - math.ceil(people * aside)


def split_sides(everything: Side, fold_of: pd.Series, part: Part) -> tuple[Side, Side]:
    """Return a fold's training and test scans.

    Parameters
    ----------
    everything : Side
        All scans.
    fold_of : Series
        Fold by participant_id.
    part : Part
        The fold.

    Returns
    -------
    tuple of Side
        Those of all other participants, and those of the fold's.

    Raises
    ------
    ErmoeError
        If a participant stands on both.
    """
    tested = np.array([fold_of[i] == part.fold for i in everything.participants])
    train, test = (
        Side(
            [everything.scans[n] for n in np.flatnonzero(on_side)],
            [everything.prepared[n] for n in np.flatnonzero(on_side)],
        )
        for on_side in (~tested, tested)
    )
    both = set(train.participants) & set(test.participants)
    if both:
        raise ErmoeError(f"{part.name}: {sorted(both)} stand on both sides of the split.")
    return train, test
