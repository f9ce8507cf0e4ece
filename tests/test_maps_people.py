"""Who is in a cohort of maps: whose age counts, which columns, and who is missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.attribution.out_of_fold import _scans
from ermoe_ba.cohort import Participants
from ermoe_ba.maps.people import OWN_COLUMNS, gather_people, with_interval, with_session_ages
from ermoe_ba.naming import ScanName


def _scan(who: str, session: str | None, age: float | None, *, own: bool = False) -> ScanName:
    return ScanName(
        path=Path(f"{who}_{session}"),
        name=f"{who}_{session}",
        participant_id=who,
        session_id=session,
        chronological_age=age,
        age_at_session=own,
    )


def _table(**columns: Any) -> Participants:
    return Participants(pd.DataFrame(columns).set_index("participant_id"))


@pytest.mark.parametrize("stated", [40.0, np.nan], ids=["at entry", "unknown"])
def test_ages_at_sessions_count_before_the_table(stated: float) -> None:
    """Scanned at 40 and 60, predicted 38 and 58.6: mean 50, gap -1.7; not 40 and +8.3."""
    scans = [_scan("a", "1", 40.0, own=True), _scan("a", "2", 60.0, own=True)]
    table = _table(participant_id=["a"], age=[stated], sex=["F"])
    people = gather_people(scans, [38.0, 58.6], table)
    row = people.table.iloc[0]
    assert row["chronological_age"] == 50.0
    assert row["brain_age_gap"] == pytest.approx(-1.7)
    assert row["sex"] == "F"
    assert people.remarks == ()


def test_an_age_that_is_not_of_the_session_gives_way_to_the_table() -> None:
    people = gather_people([_scan("a", None, 40.0)], [50.0], _table(participant_id=["a"], age=[52]))
    assert people.table["chronological_age"].tolist() == [52.0]


def test_one_age_for_several_sessions_is_said_once() -> None:
    scans = [_scan(who, session, 40.0) for who in "ab" for session in "12"]
    scans += [_scan("c", "1", 30.0, own=True), _scan("c", "2", 50.0, own=True)]
    table = _table(participant_id=["a", "b", "c"], age=[40.0, 41.0, 42.0])
    for participants in (table, None):
        people = gather_people(scans, [50.0] * 6, participants)
        assert len(people.remarks) == 1
        assert people.remarks[0].startswith("2 participants have several sessions but one age (a,")
    # Of one session only, or with an age each, nobody's age is another session's.
    single = [_scan("a", "1", 40.0), _scan("b", "1", 40.0), _scan("b", "2", 45.0)]
    assert gather_people(single, [50.0] * 3, None).remarks == ()
    # The second session takes what the table says, which may be the age at the first.
    mixed = [_scan("a", "1", 40.0, own=True), _scan("a", "2", 40.0)]
    assert gather_people(mixed, [50.0] * 2, table).remarks[0].startswith("1 participants")


def test_columns_of_the_table_never_replace_results() -> None:
    table = _table(
        participant_id=["a"],
        age=[40.0],
        scans=["7"],
        predicted_age=["old"],
        brain_age_gap=["?"],
        site=["x"],
    )
    people = gather_people([_scan("a", None, None)] * 2, [50.0, 52.0], table)
    assert people.table.columns.tolist() == [*OWN_COLUMNS, "site"]
    row = people.table.iloc[0]
    assert row["chronological_age":"brain_age_gap"].tolist() == [40.0, 11.0]
    assert row[["scans", "predicted_age", "site"]].tolist() == [2, 51.0, "x"]
    assert people.remarks == (
        "--participants: no column may have a name of the results' own; found scans, "
        "predicted_age, brain_age_gap, which were left out. Rename them in the table to keep them.",
    )


def test_who_is_missing_from_the_table_stays_without_age_and_group() -> None:
    scans = [_scan("a", None, 40.0), _scan("b", None, 41.0), _scan("c", "1", 42.0, own=True)]
    table = _table(participant_id=["b"], age=[50.0], site=["x"])
    people = gather_people(scans, [50.0] * 3, table)
    by_name = people.table.set_index("participant_id")
    # As in `predict`: the table is where ages come from, but for an age at a session.
    ages = by_name["chronological_age"]
    assert np.isnan(ages["a"])
    assert ages[["b", "c"]].tolist() == [50.0, 42.0]
    assert by_name["site"].isna().to_dict() == {"a": True, "b": False, "c": True}
    assert len(people.remarks) == 1
    assert "found none of 2 (a, c):" in people.remarks[0]


def test_an_age_at_one_scan_alone_is_not_the_mean_of_all() -> None:
    people = gather_people([_scan("a", None, 40.0), _scan("a", None, None)], [50.0, 51.0], None)
    assert people.table["chronological_age"].isna().all()
    assert people.table["brain_age_gap"].isna().all()


def test_of_a_run_several_ages_of_a_participant_are_those_at_its_sessions() -> None:
    rows = pd.DataFrame(
        {
            "participant_id": ["a", "a", "b", "b"],
            "session_id": ["1", "2", "1", "2"],
            "chronological_age": [40.0, 60.0, 33.0, 33.0],
        }
    )
    table = _table(participant_id=["a", "b"], age=[40.0, 35.0])
    people = gather_people(_scans(rows), [50.0] * 4, table)
    assert people.table["chronological_age"].tolist() == [50.0, 35.0]
    assert people.remarks[0].startswith("1 participants have several sessions but one age (b)")
    # A run outside of a data set knows no sessions.
    assert gather_people(_scans(rows.assign(session_id="n/a")), [50.0] * 4, None).remarks == ()


def _told(lower: float | None, upper: float | None, flags: str | None, seen: str) -> dict[str, Any]:
    return {
        "predicted_age_lower": lower,
        "predicted_age_upper": upper,
        "qc_flags": flags,
        "seen_in_training": seen,
    }


def test_intervals_are_means_over_the_scans_and_flags_those_of_any() -> None:
    scans = [_scan("a", "1", 40.0), _scan("a", "2", 40.0), _scan("b", None, 30.0)]
    told = [
        _told(38.0, 60.0, "noisy;contrast_low", "no"),
        _told(42.0, 70.0, "unlike_training;noisy", "name"),
        _told(None, None, None, "no"),
    ]
    people = gather_people(scans, [50.0, 56.0, 31.0], None, told).table.set_index("participant_id")
    ends = ["predicted_age_lower", "predicted_age_upper"]
    assert people.loc["a", ends].tolist() == [40.0, 65.0]
    assert people.loc["a", "qc_flags"] == "noisy;contrast_low;unlike_training"
    assert people.loc["b", [*ends, "qc_flags"]].isna().all()
    assert people["seen_in_training"].tolist() == ["name", "no"]
    # One scan without an interval leaves the participant without one.
    told[1] |= {"predicted_age_upper": None, "seen_in_training": None}
    people = gather_people(scans, [50.0, 56.0, 31.0], None, told).table.set_index("participant_id")
    assert people.loc["a", "predicted_age_lower"] == 40.0
    # Of the second scan it is not known, so that nobody can say that the person was not seen.
    assert people.loc["a", ["predicted_age_upper", "seen_in_training"]].isna().all()


def test_nothing_is_told_of_scans_of_which_nothing_is_known() -> None:
    table = gather_people([_scan("a", None, 40.0)], [50.0], None).table
    told = ["predicted_age_lower", "predicted_age_upper", "qc_flags", "seen_in_training"]
    assert table[told].isna().all(axis=None)
    # No age lies below 0.
    ends = with_interval(table.assign(predicted_age=4.0), 10.5)
    assert ends[told[:2]].to_numpy().tolist() == [[0.0, 14.5]]


def _run(*rows: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["participant_id", "session_id", "chronological_age"])


def test_of_a_run_the_age_at_the_one_session_of_a_participant_counts_before_the_table() -> None:
    """Entered at 40, of whom the run has the session at 44 alone: 44, a gap of 6 and not of 10."""
    rows = _run(("a", "2", 44.0), ("b", "1", 33.0), ("c", "1", 50.0), ("c", "2", 60.0))
    stated = _table(participant_id=["a", "b", "c"], age=[40.0, 33.0, 50.0], sex=["F", "M", "F"])
    table, remark = with_session_ages(stated, rows)
    people = gather_people(_scans(rows), [50.0, 33.0, 50.0, 60.0], table).table
    people = people.set_index("participant_id")
    assert people["scans"].to_dict() == {"a": 1, "b": 1, "c": 2}
    assert people["chronological_age"].to_dict() == {"a": 44.0, "b": 33.0, "c": 55.0}
    assert people["brain_age_gap"].to_dict() == {"a": 6.0, "b": 0.0, "c": 0.0}
    assert people["sex"].tolist() == ["F", "M", "F"]
    assert remark.startswith(
        "1 participants have another age in --participants than at their sessions in the run "
        "(a: 40 and 44 years): that of the run counts."
    )


def test_two_sessions_of_one_age_keep_it_as_two_of_different_ages_do() -> None:
    """Scanned twice at 33, in whole years, and entered at 30: 33, whatever the other sessions."""
    rows = _run(("a", "1", 33.0), ("a", "2", 33.0), ("b", "1", 33.0), ("b", "2", 35.0))
    stated = _table(participant_id=["a", "b"], age=[30.0, 30.0])
    table, remark = with_session_ages(stated, rows)
    people = gather_people(_scans(rows), [40.0] * 4, table).table
    assert people["chronological_age"].tolist() == [33.0, 34.0]
    assert "(a: 30 and 33 years)" in remark
    # Where the table says what the run was trained with, there is nothing to tell.
    again = with_session_ages(_table(participant_id=["a", "b"], age=[33.0, 30.0]), rows)
    assert again[0].table["age"].tolist() == [33.0, 30.0]
    assert again[1] == ""


def test_ages_of_a_run_without_sessions_give_way_to_the_table() -> None:
    stated = _table(participant_id=["a", "b"], age=[41.0, 35.0])
    rows = _run(("a", "n/a", 40.0), ("b", "n/a", 33.0), ("b", "n/a", 33.0))
    for without in (rows, rows[:1].drop(columns="session_id"), rows.replace("n/a", np.nan)):
        table, remark = with_session_ages(stated, without)
        assert table.table["age"].tolist() == [41.0, 35.0]
        assert remark == ""


def test_scans_of_one_session_count_once_and_an_unknown_age_is_that_of_the_run() -> None:
    rows = _run(("a", "1", 44.0), ("a", "1", 44.0), ("b", "1", 33.0))
    table, remark = with_session_ages(_table(participant_id=["a"], age=[np.nan]), rows)
    assert table.table["age"].to_dict() == {"a": 44.0}
    assert "(a: none and 44 years)" in remark
    people = gather_people(_scans(rows), [50.0, 52.0, 30.0], table).table
    assert people["scans"].tolist() == [2, 1]
    # b is missing from the table: no age, as of any other cohort.
    assert people["brain_age_gap"].fillna(0).tolist() == [7.0, 0.0]
