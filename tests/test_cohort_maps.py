"""Maps of a cohort as they are read: scans count once, members stay apart, ages have an order."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from planted_cohort import (
    BASELINE,
    TOKENS,
    random_cohort,
    random_weights,
    random_years,
    replaced,
    write_maps_of,
)

from ermoe_ba.attribution.out_of_fold import _scans
from ermoe_ba.cli.maps import _cohort as _cohort_of
from ermoe_ba.cohort import Participants
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json
from ermoe_ba.maps.cohort import CohortMaps, read_cohort
from ermoe_ba.maps.people import gather_people
from ermoe_ba.scan_files import MEMBER_YEARS, PREDICTION


def test_scans_of_a_participant_count_once_and_members_stay_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights, years = [random_weights(rng) for _ in range(3)], [random_years(rng) for _ in range(3)]
    write_maps_of(tmp_path / "deep", "sub-b", weights[0], years[0], chronological_age=None)
    write_maps_of(tmp_path, "sub-a_ses-1", weights[1], years[1], chronological_age=30.0)
    write_maps_of(tmp_path, "sub-a_ses-2", weights[2], years[2], chronological_age=32.0)
    write_json(tmp_path / f"sub-c_{PREDICTION}", {"status": "refused"} | _rest())
    cohort = read_cohort(tmp_path)
    assert cohort.tokens == TOKENS
    assert sorted(cohort.people["participant_id"]) == ["a", "b"]
    people = cohort.people.set_index("participant_id")
    assert people["scans"].to_dict() == {"a": 2, "b": 1}
    assert people.loc["a", "chronological_age"] == 31.0
    assert np.isnan(people.loc["b", "brain_age_gap"])
    order = people.index.get_indexer(["a", "b"])
    mean_a = (weights[1] + weights[2]) / 2
    np.testing.assert_allclose(cohort.weights_pte[order[0]], mean_a.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(cohort.years_pte[order[1]], years[0].mean(axis=1), atol=1e-6)
    both = (mean_a + weights[0]) / 2
    np.testing.assert_allclose(cohort.member_weights_mte, np.moveaxis(both, 1, 0), atol=1e-6)
    gap = people.loc["a", "predicted_age"] - 31.0
    assert people.loc["a", "brain_age_gap"] == pytest.approx(gap)
    assert people.loc["a", "predicted_age"] == pytest.approx(
        BASELINE + (years[1] + years[2]).mean(axis=1).sum() / 2
    )


def test_slopes_of_members_are_read_on_the_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ages, years = np.arange(30.0, 70.0, 5.0), [random_years(rng) for _ in range(8)]
    for number, (age, said) in enumerate(zip(ages, years, strict=True)):
        write_maps_of(tmp_path, f"sub-{number}", random_weights(rng), said, chronological_age=age)
    cohort = read_cohort(tmp_path)
    assert not cohort.out_of_fold
    assert cohort.member_on_age_mte is not None
    flat = np.stack(years).reshape(8, -1)
    by_hand = np.polyfit(ages, flat, 1)[0].reshape(years[0].shape)
    np.testing.assert_allclose(cohort.member_on_age_mte, np.moveaxis(by_hand, 1, 0), atol=1e-7)


def _rest() -> dict[str, Any]:
    return {
        "participant_id": "c",
        "model_id": "m-2",
        "member_stems": [],
        "baseline_years": 0.0,
        "predicted_age": None,
        "chronological_age": None,
    }


def test_ages_of_the_participants_table_count_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_maps_of(tmp_path, "sub-a", random_weights(rng), random_years(rng))
    table = pd.DataFrame({"age": [52.0], "sex": ["F"]}, index=["a"])
    people = read_cohort(tmp_path, Participants(table)).people
    assert people[["chronological_age", "sex"]].to_numpy().tolist() == [[52.0, "F"]]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda f: (f / f"sub-a_{PREDICTION}").unlink(), "found none"),
        (lambda f: (f / f"sub-a_{MEMBER_YEARS}").unlink(), "Predict without --no-maps"),
        (lambda f: (f / f"sub-a_{PREDICTION}").write_text("{}"), "prediction of this version"),
        (lambda f: write_json(f / f"sub-c_{PREDICTION}", _rest() | {"status": "ok"}), "one model"),
        (
            lambda f: nib.Nifti1Image(np.zeros((3, 3, 3, 9)), np.eye(4)).to_filename(
                f / f"sub-a_{MEMBER_YEARS}"
            ),
            "must have 9 values on the lattice",
        ),
    ],
    ids=["none", "no maps", "old", "two models", "other lattice"],
)
def test_what_makes_no_cohort_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    rng = np.random.default_rng(0)
    write_maps_of(tmp_path, "sub-a", random_weights(rng), random_years(rng))
    spoil(tmp_path)
    with pytest.raises(UsageError, match=why):
        read_cohort(tmp_path)


def test_an_age_at_a_session_is_known_by_its_prediction(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for session, age in (("1", 40.0), ("2", 60.0)):
        at = {"session_id": session, "chronological_age": age, "age_at_session": True}
        write_maps_of(
            tmp_path, f"sub-a_ses-{session}", random_weights(rng), random_years(rng), **at
        )
    write_maps_of(tmp_path, "sub-b", random_weights(rng), random_years(rng))
    cohort = read_cohort(tmp_path, Participants(pd.DataFrame({"age": [40.0]}, index=["a"])))
    people = cohort.people.set_index("participant_id")
    assert people.loc["a", "chronological_age"] == 50.0
    assert np.isnan(people.loc["b", "chronological_age"])
    assert len(cohort.remarks) == 1
    assert "found none of 1 (b)" in cohort.remarks[0]


def test_intervals_and_flags_are_read_of_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    told = {"predicted_age_lower": 38.0, "predicted_age_upper": 60.0, "qc_flags": "noisy"}
    write_maps_of(tmp_path, "sub-a", random_weights(rng), random_years(rng), **told)
    write_maps_of(tmp_path, "sub-b", random_weights(rng), random_years(rng))
    people = read_cohort(tmp_path).people.set_index("participant_id")
    assert people.loc["a", list(told)].to_dict() == told
    assert people.loc["b", list(told)].isna().all()


def test_people_of_a_run_have_the_model_s_interval_and_the_ages_at_their_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entered at 40 by the table, scanned at 44; predicted 50 with 6 years on either side."""
    rows = pd.DataFrame({"participant_id": ["a"], "session_id": ["2"], "chronological_age": [44.0]})
    made = random_cohort(1)

    def cohort(participants: Participants | None) -> CohortMaps:
        people = gather_people(_scans(rows), [50.0], participants)
        return replaced(made, people=people.table, remarks=people.remarks, out_of_fold=True)

    run = SimpleNamespace(table=rows, cohort=cohort)
    (tmp_path / "model.json").touch()
    monkeypatch.setattr("ermoe_ba.attribution.out_of_fold.read_out_of_fold", lambda _: run)
    card = SimpleNamespace(half_width=6.0)
    monkeypatch.setattr("ermoe_ba.model_card.read_card", lambda _: card)
    given = Participants(pd.DataFrame({"age": [40.0]}, index=["a"]))
    for participants, remarks in ((given, 1), (None, 0)):
        read = _cohort_of(tmp_path, participants)
        (row,) = read.people.to_dict("records")
        assert (row["chronological_age"], row["brain_age_gap"]) == (44.0, 6.0)
        assert (row["predicted_age_lower"], row["predicted_age_upper"]) == (44.0, 56.0)
        assert len(read.remarks) == remarks
