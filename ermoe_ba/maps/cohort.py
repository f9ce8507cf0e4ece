"""A cohort as one table of tokens, and how a folder of predictions becomes one.

Read one scan after the other, so that memory holds one number a participant, token and expert, and
no voxel.

Shapes: P participants, M members, T tokens, E experts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.cohort import Participants
from ermoe_ba.errors import UsageError
from ermoe_ba.io import read_volume
from ermoe_ba.scan_files import EXPERT_LABELS, MEMBER_WEIGHTS, MEMBER_YEARS, PREDICTION
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Array
from ermoe_ba.tokens import TokenGrid

# Fewer participants have fewer than 5,040 orders: permutations would repeat themselves.
MIN_PARTICIPANTS = 7


@dataclass(frozen=True, kw_only=True)
class CohortMaps:
    """What the members of one model said of a cohort, token by token.

    Parameters
    ----------
    model_id : str
        The model.
    tokens : TokenGrid
        Where the tokens lie.
    experts : DataFrame
        ``index``, ``name`` and ``kind`` (regional or free), one row an expert.
    member_stems : list of int
        Stem of each member: members of one fold share theirs.
    baseline_years : float
        Age before any token has spoken, mean over participants.
    people : DataFrame
        One row a participant: ``participant_id``, ``scans``, ``predicted_age``,
        ``chronological_age`` and ``brain_age_gap`` (means over the scans, in years; NaN where the
        age is not known) and the other columns of the participants table.
    weights_pte, years_pte : ndarray
        float32; routing weights and years, mean over a participant's scans and over members.
    member_weights_mte, member_years_mte : ndarray
        The same of each member, mean over the participants that it saw.
    member_on_age_mte : ndarray or None
        Slopes of each member's years on chronological age, years a year, over the participants that
        it saw; None where `age_weights` knows none. A cohort like the one that the model was
        trained on has means of about 0 everywhere, and these slopes all the same.
    out_of_fold : bool
        Whether each participant was seen by the members of one fold alone, which had not been
        trained on it; else by all members.
    """

    model_id: str
    tokens: TokenGrid
    experts: pd.DataFrame
    member_stems: list[int]
    baseline_years: float
    people: pd.DataFrame
    weights_pte: Array
    years_pte: Array
    member_weights_mte: Array
    member_years_mte: Array
    member_on_age_mte: Array | None
    out_of_fold: bool


def age_weights(ages_p: Array) -> Array | None:
    """Return what makes slopes on age of participants' values.

    Parameters
    ----------
    ages_p : ndarray, shape (P,)
        Chronological ages in years, NaN where they are not known.

    Returns
    -------
    ndarray or None
        Shape (P,): ``(age - mean) / sum((age - mean)^2)``, 0 where the age is not known, so that
        ``weights @ values`` is the least squares slope. None where fewer than `MIN_PARTICIPANTS`
        ages are known, or all are equal.
    """
    known = np.isfinite(ages_p)
    if known.sum() < MIN_PARTICIPANTS:
        return None
    unlike = np.where(known, ages_p - ages_p[known].mean(), 0.0)
    squares = unlike @ unlike
    return np.asarray(unlike / squares) if squares > 0 else None


def read_cohort(folder: Path, participants: Participants | None = None) -> CohortMaps:
    """Read what ``ermoe-ba predict`` wrote of a cohort.

    Parameters
    ----------
    folder : Path
        Its results, in the folder or below; scans without an age are passed over.
    participants : Participants, optional
        Ages, which count before those that the predictions were given.

    Returns
    -------
    CohortMaps
        Participants in the order of their names.

    Raises
    ------
    UsageError
        If there is no prediction, one came without maps, or they are of several models.
    ScanError
        If a file cannot be read.
    """
    by_person: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for path in sorted(folder.rglob(f"*_{PREDICTION}")):
        content = _content(path)
        if content["status"] == "ok":
            by_person.setdefault(str(content["participant_id"]), []).append((path, content))
    if not by_person:
        raise UsageError(f"{folder}: must hold results of `ermoe-ba predict`; found none.")
    models = {str(c["model_id"]) for scans in by_person.values() for _, c in scans}
    if len(models) > 1:
        raise UsageError(
            f"{folder}: all predictions must be of one model; found {', '.join(sorted(models))}."
        )
    first, content = next(iter(by_person.values()))[0]
    experts = pd.read_csv(_sibling(first, EXPERT_LABELS), sep="\t")
    stems = [int(stem) for stem in content["member_stems"]]
    weights = read_volume(_sibling(first, MEMBER_WEIGHTS), TEMPLATE_SPACE)
    occupied = weights.same_grid(np.asarray(weights.data.any(axis=3)))
    try:
        tokens = TokenGrid.from_lattice(occupied, MODEL_GRID)
    except ValueError as error:
        raise UsageError(f"{first}: its tokens cannot be read ({error}).") from error
    people = people_table(
        {name: [content for _, content in scans] for name, scans in by_person.items()}, participants
    )
    on_age_p = age_weights(people["chronological_age"].to_numpy(dtype=float))
    shape = (len(tokens), len(stems), len(experts))
    pooled = {suffix: np.zeros(shape) for suffix in (MEMBER_WEIGHTS, MEMBER_YEARS)}
    on_age_tme = np.zeros(shape)
    each = {
        suffix: np.empty((len(by_person), len(tokens), len(experts)), dtype=np.float32)
        for suffix in pooled
    }
    for number, scans in enumerate(by_person.values()):
        for suffix, sums in pooled.items():
            mean = sum(_by_token(_sibling(p, suffix), tokens, shape) for p, _ in scans) / len(scans)
            each[suffix][number] = np.mean(mean, axis=1)
            sums += mean / len(by_person)
            if suffix == MEMBER_YEARS and on_age_p is not None:
                on_age_tme += on_age_p[number] * mean
    return CohortMaps(
        model_id=models.pop(),
        tokens=tokens,
        experts=experts,
        member_stems=stems,
        baseline_years=float(content["baseline_years"]),
        people=people,
        weights_pte=each[MEMBER_WEIGHTS],
        years_pte=each[MEMBER_YEARS],
        member_weights_mte=np.moveaxis(pooled[MEMBER_WEIGHTS], 1, 0),
        member_years_mte=np.moveaxis(pooled[MEMBER_YEARS], 1, 0),
        member_on_age_mte=None if on_age_p is None else np.moveaxis(on_age_tme, 1, 0),
        out_of_fold=False,
    )


def _content(path: Path) -> dict[str, Any]:
    """Read what a prediction tells of itself, without what maps of a cohort do not need."""
    wanted = (
        "status",
        "participant_id",
        "model_id",
        "member_stems",
        "baseline_years",
        "predicted_age",
        "chronological_age",
    )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in wanted}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{path}: must be a prediction of this version; found {type(error).__name__}: {error}. "
            "Predict the scan again."
        ) from error


def _sibling(prediction: Path, suffix: str) -> Path:
    path = prediction.with_name(f"{prediction.name.removesuffix(PREDICTION)}{suffix}")
    if not path.is_file():
        raise UsageError(
            f"{prediction}: needs {path.name} beside it; found none. Predict without --no-maps."
        )
    return path


def _by_token(path: Path, tokens: TokenGrid, shape: tuple[int, int, int]) -> Array:
    """Read members' values by token, shape (T, M, E)."""
    volume = read_volume(path, TEMPLATE_SPACE)
    channels = shape[1] * shape[2]
    if volume.grid != tokens.lattice or volume.data.shape[3:] != (channels,):
        raise UsageError(
            f"{path}: must have {channels} values on the lattice of the other scans, "
            f"{tokens.lattice.shape}; found {volume.data.shape}."
        )
    values = volume.data[tuple(tokens.positions.T)]
    return np.asarray(values.reshape(shape), dtype=np.float64)


def people_table(
    by_person: Mapping[str, Sequence[Mapping[str, Any]]], participants: Participants | None
) -> pd.DataFrame:
    """Return what is known of each participant.

    Parameters
    ----------
    by_person : mapping of str to sequence of mapping
        Of each participant's scans, ``predicted_age`` and ``chronological_age`` in years; the
        latter None where it is not known.
    participants : Participants, optional
        Ages, which count before those of the scans, and further columns.

    Returns
    -------
    DataFrame
        As `CohortMaps.people`, in the order of `by_person`.

    Raises
    ------
    UsageError
        If a participant has no row in the participants table.
    """
    rows = []
    for name, scans in by_person.items():
        ages = [s["chronological_age"] for s in scans if s["chronological_age"] is not None]
        row: dict[str, Any] = {
            "participant_id": name,
            "scans": len(scans),
            "predicted_age": float(np.mean([s["predicted_age"] for s in scans])),
            # A participant's age at one scan alone says nothing of the mean over all.
            "chronological_age": float(np.mean(ages)) if len(ages) == len(scans) else np.nan,
        }
        if participants is not None:
            if name not in participants.table.index:
                raise UsageError(
                    f"Participant {name!r} has a prediction and no row in the participants table. "
                    "Add the row (age n/a if unknown)."
                )
            known = participants.table.loc[name]
            row["chronological_age"] = known["age"]
            row |= {str(column): value for column, value in known.drop("age").items()}
        rows.append(row)
    people = pd.DataFrame(rows)
    gap = people["predicted_age"] - people["chronological_age"]
    people.insert(4, "brain_age_gap", gap)
    return people
