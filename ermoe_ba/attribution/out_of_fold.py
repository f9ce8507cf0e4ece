"""What the members of a cross-validated run say of the scans that they were not trained on.

Shapes: N scans, P participants, M members of a fold, T tokens, E experts, C tissue classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from ermoe_ba.checkpoint import load_member, token_grid
from ermoe_ba.cohort import Participants
from ermoe_ba.errors import UsageError
from ermoe_ba.maps.cohort import CohortMaps, age_weights
from ermoe_ba.maps.experts import expert_labels
from ermoe_ba.maps.people import gather_people
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model_card import read_card
from ermoe_ba.model_identity import model_identity
from ermoe_ba.naming import ScanName
from ermoe_ba.space import Array
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.run_folder import read_run_table


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """The scans of a run, each as the members of its own fold see it.

    Parameters
    ----------
    table : DataFrame
        ``participant_id``, ``fold``, ``chronological_age`` and ``predicted_age`` (years), N rows,
        fold by fold.
    model_id : str
        Name of the run's model and hash of its weights.
    config : ModelConfig
        Shape of the members.
    tokens : TokenGrid
        Where the tokens lie.
    years_nmte : ndarray
        float32; years that each token contributes through each expert of each member.
    weights_nmte : ndarray
        float32; routing weights of each member.
    baseline_n : ndarray, shape (N,)
        Age in years before any token has spoken, mean over the members.
    fractions_ntc : ndarray, shape (N, T, C)
        Share of each token in each tissue class, as the fold's stem sees it.
    """

    table: pd.DataFrame
    model_id: str
    config: ModelConfig
    tokens: TokenGrid
    years_nmte: Array
    weights_nmte: Array
    baseline_n: Array
    fractions_ntc: Array

    @property
    def years_nt(self) -> Array:
        """Years that each token contributes, over its experts, means over the members: (N, T)."""
        return np.asarray(self.years_nmte.sum(axis=3).mean(axis=1))

    def cohort(self, participants: Participants | None = None) -> CohortMaps:
        """Return the run's people as a cohort of maps, every participant counting once.

        A member's mean is over the participants of its fold, so members of two folds differ in
        whom they saw as well as in what they learnt.

        Parameters
        ----------
        participants : Participants, optional
            Ages, which count before those of the run, and further columns. Where a participant
            has several ages in the run, they are those at its sessions and count before.

        Returns
        -------
        CohortMaps
            Participants in the order of the table.
        """
        rows = self.table.reset_index(drop=True)
        by_name = rows.groupby("participant_id", sort=False)
        groups = {str(name): part.index for name, part in by_name}

        def by_person(values: Array) -> Array:
            return np.stack([values[index].mean(axis=0) for index in groups.values()])

        weights_pmte, years_pmte = by_person(self.weights_nmte), by_person(self.years_nmte)
        # A participant's scans lie in one fold.
        fold_p = np.array([rows["fold"][index[0]] for index in groups.values()])
        folds, members = list(dict.fromkeys(fold_p.tolist())), self.weights_nmte.shape[1]

        def by_member(values_pmte: Array) -> Array:
            means = [values_pmte[fold_p == fold].mean(axis=0, dtype=np.float64) for fold in folds]
            return np.concatenate(means)

        people = gather_people(_scans(rows), rows["predicted_age"].tolist(), participants)
        age_p = people.table["chronological_age"].to_numpy(dtype=float)
        on_age = [age_weights(age_p[fold_p == fold]) for fold in folds]
        slopes = [
            np.einsum("p,pmte->mte", weights_p, years_pmte[fold_p == fold])
            for fold, weights_p in zip(folds, on_age, strict=True)
            if weights_p is not None
        ]
        return CohortMaps(
            model_id=self.model_id,
            tokens=self.tokens,
            experts=expert_labels(self.config),
            member_stems=[stem for stem in range(len(folds)) for _ in range(members)],
            baseline_years=float(by_person(self.baseline_n).mean()),
            people=people.table,
            remarks=people.remarks,
            weights_pte=weights_pmte.mean(axis=1),
            years_pte=years_pmte.mean(axis=1),
            member_weights_mte=by_member(weights_pmte),
            member_years_mte=by_member(years_pmte),
            # Where one fold has none, members cannot be compared.
            member_on_age_mte=np.concatenate(slopes) if len(slopes) == len(folds) else None,
            out_of_fold=True,
        )


def _scans(rows: pd.DataFrame) -> list[ScanName]:
    """Return who the rows of a run are of.

    A table of participants knows one age of each: who has several has them of the sessions.
    """
    ages = rows.groupby("participant_id")["chronological_age"].transform("nunique")
    sessions = rows["session_id"] if "session_id" in rows else pd.Series("n/a", index=rows.index)
    return [
        ScanName(
            path=Path(str(who)),
            name=str(who),
            participant_id=str(who),
            session_id=None if pd.isna(session) or session == "n/a" else str(session),
            chronological_age=float(age),
            age_at_session=bool(several > 1),
        )
        for who, session, age, several in zip(
            rows["participant_id"], sessions, rows["chronological_age"], ages, strict=True
        )
    ]


@torch.no_grad()
def read_out_of_fold(run: Path) -> OutOfFold:
    """Read a run of `cross-validate` and ask its members.

    Parameters
    ----------
    run : Path
        The run's folder, finished, with what it kept.

    Returns
    -------
    OutOfFold

    Raises
    ------
    UsageError
        If the folder holds no finished run, or what it kept is no longer there.
    """
    card = read_card(run)
    tokens = token_grid(card.model)
    tables = [read_run_table(path) for path in sorted(run.glob("fold-*_predictions.tsv"))]
    years, weights, baselines, fractions = [], [], [], []
    for table in tables:
        fold = int(table["fold"].iloc[0])
        kept = run / "kept" / f"fold-{fold}_described.safetensors"
        paths = sorted(run.glob(f"fold-{fold}_start-*.safetensors"))
        if not kept.is_file() or not paths:
            raise UsageError(
                f"{run}: fold {fold} must have its members and {kept.name} in kept; at least one "
                "is missing. Run `ermoe-ba cross-validate` on the same folder again."
            )
        described = load_file(kept)["test"][:, 0].float()
        outputs = [load_member(path, card.model, tokens).read_age(described) for path in paths]
        years.append(np.stack([o.contributions_bte.numpy() for o in outputs], axis=1))
        weights.append(np.stack([o.routing.weights_bte.numpy() for o in outputs], axis=1))
        baselines.append(np.full(len(table), np.mean([float(o.baseline) for o in outputs])))
        fractions.append(outputs[0].fractions_btc.numpy())
    if not tables:
        raise UsageError(f"{run}: must be a finished run of cross-validate; no fold's table found.")
    return OutOfFold(
        table=pd.concat(tables, ignore_index=True),
        model_id=model_identity(run, card),
        config=card.model,
        tokens=tokens,
        years_nmte=np.concatenate(years),
        weights_nmte=np.concatenate(weights),
        baseline_n=np.concatenate(baselines),
        fractions_ntc=np.concatenate(fractions),
    )
