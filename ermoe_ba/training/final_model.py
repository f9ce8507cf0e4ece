"""One model trained on everybody, whose error is that of a cross-validation of the same recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json
from ermoe_ba.model_card import read_card, save_card
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.study import read_study
from ermoe_ba.tables import PREDICTIONS, write_table
from ermoe_ba.training.assemble import match_experts
from ermoe_ba.training.part import PartTrainer, Side
from ermoe_ba.training.processes import Processes
from ermoe_ba.training.ready_study import ReadyStudy, make_ready
from ermoe_ba.training.recipe import Recipe
from ermoe_ba.training.run_folder import SCANS, RunFolder, read_run_table
from ermoe_ba.training.run_part import whole_parts
from ermoe_ba.training.simulated_people import simulated_people
from ermoe_ba.training_scans import keep_training_scans

# Ages of the cross-validation; `predictions.tsv` would be taken for the model's own.
OUT_OF_FOLD = "out_of_fold_predictions.tsv"
# What the card says of where its figures come from.
FIGURES = (
    "of the cross-validation of the same recipe on the same scans, whose members each saw fewer of "
    "them; nothing was measured with this model itself, which has seen everybody"
)


class FinalModel:
    """A model trained on all scans of a study.

    Parameters
    ----------
    recipe : Recipe
        All choices.
    participants_path : Path
        The participants table.
    run : Path
        Finished cross-validation of the same recipe on the same scans: its out-of-fold figures and
        its interval are the model's.
    out : Path
        Folder of the model.
    prepared : Path, optional
        Where prepared scans are kept; where the cross-validation keeps them by default.
    jobs : int
        Processes that prepare scans.
    skip_unusable : bool
        Go on without scans that cannot be used, as the cross-validation did.

    Raises
    ------
    UsageError
        If the recipe or the table cannot be used, or the cross-validation is not finished.
    """

    def __init__(
        self,
        recipe: Recipe,
        participants_path: Path,
        run: Path,
        out: Path,
        *,
        prepared: Path | None = None,
        jobs: int = 1,
        skip_unusable: bool = False,
    ) -> None:
        self.recipe, self.folder, self.validated = recipe, RunFolder(out), RunFolder(run)
        self.study = read_study(participants_path, recipe.run.t1w, recipe.run.labels)
        self.card = read_card(run)
        tokens = token_grid(recipe.model)
        self.trainer = PartTrainer(recipe, self.folder, tokens, self.study)
        self.cohort = PreparedCohort(prepared or run / "prepared", Preprocessor(recipe.preprocess))
        self._jobs, self._skip_unusable = jobs, skip_unusable

    def run(self) -> dict[str, Any]:
        """Train the members, or those that an earlier start left to do.

        Returns
        -------
        dict
            Out-of-fold metrics of the cross-validation.

        Raises
        ------
        UsageError
            If the cross-validation was one of another recipe or of other scans.
        """
        recipe, processes = self.recipe, Processes()
        # Of torchrun's processes, one makes what all of them read.
        with processes.accelerator.main_process_first():
            ready = self._begin()
            simulated = simulated_people(
                recipe.pretrain, ready, self.folder.phantom, jobs=self._jobs
            )
        everybody, nobody = self.trainer.read(ready), Side((), ())
        for part in whole_parts(recipe.run):
            self.trainer.train(part, everybody, nobody, simulated)
        # Each has written its members before the first writes some of them anew.
        processes.accelerator.wait_for_everyone()
        if processes.is_main:
            self._finish(ready)
        processes.accelerator.wait_for_everyone()
        return self.card.metrics

    def _begin(self) -> ReadyStudy:
        """Make scans ready and the folder this model's, if its figures can be had."""
        recipe, out = self.recipe, self.folder.out
        self.folder.refuse_other(recipe)
        ready = make_ready(
            self.study, self.cohort, out, jobs=self._jobs, skip_unusable=self._skip_unusable
        )
        ready.study.refuse_beyond(recipe.model.age_bounds)
        self.folder.claim(recipe, ready.study)
        if not self.validated.holds(recipe, ready.study):
            raise UsageError(
                f"{self.validated.out}: must hold a cross-validation of this very recipe on these "
                "very scans, or its figures would not be this model's."
            )
        write_table(out / SCANS, ready.scans)
        return ready

    def _finish(self, ready: ReadyStudy) -> None:
        """Make a model of the members that are trained."""
        recipe, out = self.recipe, self.folder.out
        match_experts(recipe, self.folder, self.trainer.tokens, whole_parts(recipe.run))
        # Nobody was left out of it: whoever is in this table must not be tested.
        keep_training_scans(out, ready.scans, None)
        # The ages that its figures are of.
        predictions = read_run_table(self.validated.out / PREDICTIONS)
        write_table(out / OUT_OF_FOLD, predictions)
        write_json(out / "metrics.json", self.card.metrics)
        provenance = {**self.card.provenance, "figures": FIGURES}
        save_card(out, replace(self.card, provenance=provenance))
