"""Fine-tuning: a trained model made to fit one site, and whether that helped, out of fold.

Shapes: N scans of the site, M members.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ermoe_ba import __version__
from ermoe_ba.checkpoint import Ensemble, load_ensemble, save_member
from ermoe_ba.cohort import Participants
from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.errors import UsageError
from ermoe_ba.intervals import conformal_half_width, smallest_cohort
from ermoe_ba.io import write_json
from ermoe_ba.metrics import age_metrics, person_shares
from ermoe_ba.model.stem import VoxelStem
from ermoe_ba.model_card import model_folder, save_card
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.space import Array
from ermoe_ba.splits import split_folds
from ermoe_ba.study import StudyScan, read_study
from ermoe_ba.tables import PREDICTIONS, write_table
from ermoe_ba.training.age import scan_variants
from ermoe_ba.training.ready_study import ReadyStudy, make_ready
from ermoe_ba.training.run_folder import SCANS, SPLITS
from ermoe_ba.training.seen import Seen, find_seen
from ermoe_ba.training.study_hash import data_hash
from ermoe_ba.training.tuning import WAYS, SiteView, Tuned, Way, apply_tuning, tune
from ermoe_ba.training_scans import UNTOLD, keep_training_scans, read_training_scans


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How tuning is tested.

    Parameters
    ----------
    num_folds : int
        Folds in which tuning is tested, and within the training part of each of which the way is
        chosen.
    seed : int
        Of both draws.
    min_participants : int
        Fewer cannot tell whether tuning helps.
    """

    num_folds: int = 5
    seed: int = 1
    min_participants: int = 30


class FineTuning:
    """A shipped or other model tuned to the scans of a study.

    Parameters
    ----------
    model : str
        Name of a shipped model, or folder of another.
    participants_path : Path
        The site's participants table.
    out : Path
        Folder of the tuned model and of what it is worth.
    t1w : str, optional
        As `read_study` takes it; without one, the table lies in a BIDS data set.
    prepared : Path, optional
        Where prepared scans are kept; ``out / "prepared"`` by default.
    jobs : int
        Processes that prepare scans.
    skip_unusable : bool
        Go on without scans that cannot be used.
    config : TuningConfig
        Settings.

    Raises
    ------
    UsageError
        If model or table cannot be used, or `out` holds a model.
    """

    def __init__(
        self,
        model: str,
        participants_path: Path,
        out: Path,
        *,
        t1w: str | None = None,
        prepared: Path | None = None,
        jobs: int = 1,
        skip_unusable: bool = False,
        config: TuningConfig | None = None,
    ) -> None:
        if (out / "model.json").is_file():
            raise UsageError(f"{out} holds a model; choose another --out.")
        self.config, self.out = config or TuningConfig(), out
        self.folder = model_folder(model)
        self.ensemble: Ensemble = load_ensemble(model)
        self.study = read_study(participants_path, t1w, None)
        self.cohort = PreparedCohort(
            prepared or out / "prepared", Preprocessor(self.ensemble.card.preprocess)
        )
        self._jobs, self._skip_unusable = jobs, skip_unusable

    def run(self) -> dict[str, Any]:
        """Tune, test and write the model.

        Returns
        -------
        dict
            ``metrics.json``: metrics of the model as it is (``untuned``) and ``tuned``, on the same
            scans and by members that did not see them; by how much the error changes, the way
            chosen, and whom the model had seen before.

        Raises
        ------
        UsageError
            If there are too few participants, or some whom all members saw.
        """
        self._refuse_few(self.study.participants)
        ready = make_ready(
            self.study, self.cohort, self.out, jobs=self._jobs, skip_unusable=self._skip_unusable
        )
        people = ready.study.participants
        # Scans that cannot be used may have left fewer.
        self._refuse_few(people)
        seen = find_seen(self.folder, ready.scans)
        view = self._view(ready, seen)
        folds = split_folds(people, self.config.num_folds, self.config.seed)
        owners = np.array([scan.participant_id for scan in ready.study.scans])
        fold_n = folds.loc[owners].to_numpy()
        tuned_n, by_fold = self._test(view, fold_n, owners, people)
        everybody = np.ones(len(owners), dtype=bool)
        way = self._choose(view, everybody, owners, people)
        metrics = {
            "untuned": age_metrics(view.ages_n, view.base_n, owners),
            "tuned": age_metrics(view.ages_n, tuned_n, owners),
            "way": way,
            "way_by_fold": by_fold,
            "model": self.ensemble.model_id,
            "num_scans_of_training_participants": seen.num_known,
            "remark": seen.remark,
        }
        self._write_members(tune(view.base_n, view.ages_n, way, owners))
        write_table(self.out / SCANS, ready.scans)
        write_table(self.out / SPLITS, folds.reset_index())
        write_table(self.out / PREDICTIONS, _table(ready.study.scans, fold_n, view, tuned_n))
        write_json(self.out / "metrics.json", metrics)
        # Whom the model had seen before, it has seen still, told or not.
        before = read_training_scans(self.folder)
        told = pd.concat([UNTOLD if before is None else before, ready.scans])
        keep_training_scans(self.out, told.drop_duplicates("voxel_hash"), None)
        self._write_card(view, tuned_n, owners, metrics, data_hash(ready.study))
        return metrics

    def _refuse_few(self, people: Participants) -> None:
        # The interval of the tuned model is that of these people's residuals.
        fewest = max(self.config.min_participants, smallest_cohort(self.ensemble.card.coverage))
        if len(people.table) < fewest:
            raise UsageError(
                f"Fine-tuning needs at least {fewest} participants of known age; found "
                f"{len(people.table)}. With fewer, use the model's ages as they are."
            )

    @torch.no_grad()
    def _view(self, ready: ReadyStudy, seen: Seen) -> SiteView:
        """Return what each member makes of each scan."""
        prepared = [self.cohort.read(scan) for scan in ready.study.scans]
        # Members of a fold share their stem, and with it the descriptions of the scans.
        described: dict[VoxelStem, torch.Tensor] = {}
        base = []
        for member in tqdm(self.ensemble.members, desc="members", mininterval=2.0):
            if member.stem not in described:
                variants = scan_variants(member.describe, prepared, 0, self.config.seed)
                described[member.stem] = variants[:, 0].float()
            base.append(member.read_age(described[member.stem]).age_b.numpy())
        return SiteView(
            ages_n=np.array([scan.chronological_age for scan in ready.study.scans]),
            base_mn=np.stack(base).astype(float),
            unseen_mn=seen.unseen_mn,
        )

    def _test(
        self, view: SiteView, fold_n: Array, owners: Array, people: Participants
    ) -> tuple[Array, list[Way]]:
        """Return out-of-fold ages of the tuned model, and the way that each fold chose."""
        tuned_n = np.empty(len(fold_n))
        chosen: list[Way] = []
        for fold in range(self.config.num_folds):
            train = fold_n != fold
            way = self._choose(view, train, owners, people)
            tuned = tune(view.base_n[train], view.ages_n[train], way, owners[train])
            tuned_n[~train] = tuned.ages(view.base_n[~train])
            chosen.append(way)
        return tuned_n, chosen

    def _choose(self, view: SiteView, among: Array, owners: Array, people: Participants) -> Way:
        """Return the way with the least error on inner folds of some of the scans.

        Like the error that is told, and the fit itself, it lets all people count alike.
        """
        inside = Participants(people.table.loc[pd.unique(owners[among])])
        folds = split_folds(inside, self.config.num_folds, self.config.seed)
        fold_n = pd.Series(owners).map(folds).to_numpy()
        shares, errors = person_shares(owners[among]), {}
        for way in WAYS:
            found = np.zeros(len(owners))
            for fold in range(self.config.num_folds):
                tested, train = among & (fold_n == fold), among & (fold_n != fold)
                tuned = tune(view.base_n[train], view.ages_n[train], way, owners[train])
                found[tested] = tuned.ages(view.base_n[tested])
            errors[way] = np.average(np.abs(found - view.ages_n)[among], weights=shares)
        return min(WAYS, key=lambda way: errors[way])

    def _write_members(self, tuned: Tuned) -> None:
        """Tune the members and write them, under the names they had."""
        paths = sorted(self.folder.glob("fold-*.safetensors"))
        for path, member in zip(paths, self.ensemble.members, strict=True):
            apply_tuning(member, tuned)
            save_member(self.out / path.name, member)

    def _write_card(
        self,
        view: SiteView,
        tuned_n: Array,
        owners: Array,
        metrics: dict[str, Any],
        digest: str,
    ) -> None:
        """Write the card last: where it stands, the model is whole."""
        card = self.ensemble.card
        half_width = conformal_half_width(tuned_n - view.ages_n, card.coverage, owners)
        save_card(
            self.out,
            replace(
                card,
                name=f"{card.name}-tuned",
                ages=tuple(view.ages_n.tolist()),
                predictions=tuple(np.round(tuned_n, 3).tolist()),
                half_width=half_width,
                metrics=metrics["tuned"],
                provenance={
                    **card.provenance,
                    "tuned_from": self.ensemble.model_id,
                    "tuned_by": metrics["way"],
                    "tuned_data_hash": digest,
                    "tuned_ermoe_ba": __version__,
                },
            ),
        )


def _table(
    scans: Sequence[StudyScan], fold_n: Array, view: SiteView, tuned_n: Array
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "participant_id": [scan.participant_id for scan in scans],
            "session_id": [scan.session_id for scan in scans],
            "scan": [scan.name for scan in scans],
            "fold": fold_n,
            "chronological_age": view.ages_n,
            "predicted_age": tuned_n,
            "brain_age_gap": tuned_n - view.ages_n,
            "predicted_age_untuned": view.base_n,
        }
    )
