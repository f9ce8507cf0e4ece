"""A cohort as one table of tokens, and how a folder of predictions becomes one.

Read one scan after the other, so that memory holds one number a participant, token and expert, and
no voxel.

Shapes: P participants, M members, T tokens, E experts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.cohort import Participants
from ermoe_ba.errors import UsageError
from ermoe_ba.io import read_volume
from ermoe_ba.maps.people import gather_people
from ermoe_ba.naming import ScanName
from ermoe_ba.scan_files import EXPERT_LABELS, MEMBER_WEIGHTS, MEMBER_YEARS, PREDICTION
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Array
from ermoe_ba.tokens import TokenGrid

# Fewer participants have fewer than 5,040 orders: permutations would repeat themselves.
MIN_PARTICIPANTS = 7
# What the table of people tells of a prediction, where it knows it.
_SHOWN = ("predicted_age_lower", "predicted_age_upper", "qc_flags", "seen_in_training")


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
        One row a participant, as `ermoe_ba.maps.people.People` has them.
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
    remarks : tuple of str
        What the user must be told of the participants' ages and table.
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
    remarks: tuple[str, ...] = ()


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
    # Not by the deviations: the mean of equal ages may miss them by rounding, and slopes on that
    # would be numbers of 14 digits.
    if known.sum() < MIN_PARTICIPANTS or np.ptp(ages_p[known]) == 0:
        return None
    unlike = np.where(known, ages_p - ages_p[known].mean(), 0.0)
    return np.asarray(unlike / (unlike @ unlike))


def read_cohort(folder: Path, participants: Participants | None = None) -> CohortMaps:
    """Read what ``ermoe-ba predict`` wrote of a cohort.

    Parameters
    ----------
    folder : Path
        Its results, in the folder or below; scans without an age are passed over.
    participants : Participants, optional
        Ages, which count before those that the predictions were given, but for an age at a
        scan's own session. Whoever is missing from it has no other age.

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
    scans_in_order = [scan for scans in by_person.values() for scan in scans]
    people = gather_people(
        [_scan_name(path, content) for path, content in scans_in_order],
        [float(content["predicted_age"]) for _, content in scans_in_order],
        participants,
        [content for _, content in scans_in_order],
    )
    on_age_p = age_weights(people.table["chronological_age"].to_numpy(dtype=float))
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
        people=people.table,
        remarks=people.remarks,
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
        # Earlier results do not say whether an age is that at the session: it then counts as the
        # person's.
        later = {key: content.get(key) for key in ("session_id", "age_at_session", *_SHOWN)}
        return {key: content[key] for key in wanted} | later
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{path}: must be a prediction of this version; found {type(error).__name__}: {error}. "
            "Predict the scan again."
        ) from error


def _scan_name(path: Path, content: dict[str, Any]) -> ScanName:
    """Return who a prediction is of, and what it was told of the age."""
    return ScanName(
        path=path,
        name=path.name.removesuffix(f"_{PREDICTION}"),
        participant_id=str(content["participant_id"]),
        session_id=content["session_id"],
        chronological_age=content["chronological_age"],
        age_at_session=bool(content["age_at_session"]),
    )


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
