"""Ages of a BIDS data set: of participants or sessions, in any unit, and unknown with a word."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from empty_dataset import ALL, dataset

from ermoe_ba.cohort import Participants, one_age_remark, read_participants
from ermoe_ba.errors import UsageError
from ermoe_ba.inputs import Selection, find_scans

# Fixtures, which pytest finds by name.
__all__ = ["dataset"]


def test_the_age_at_a_session_counts_before_the_participant_s(
    dataset: Callable[..., Path],
) -> None:
    root = dataset(
        *(f"sub-{who}_ses-{when}_T1w.nii.gz" for who in ("01", "02") for when in ("a", "b")),
        participants="participant_id\tage\nsub-01\t40\nsub-02\t89+\n",
        **{"01": "session_id\tage\nses-b\t42.5\nses-a\tn/a\n"},
    )
    scans, _ = find_scans([root], ALL)
    ages = {(s.participant_id, s.session_id): s.chronological_age for s in scans}
    assert ages == {("01", "a"): 40.0, ("01", "b"): 42.5, ("02", "a"): None, ("02", "b"): None}


def test_sessions_that_share_one_age_are_told_of_whichever_are_asked_for(
    dataset: Callable[..., Path],
) -> None:
    """1: none of two has its own age; 2: one of two; 3: both; 4: one session; 5: no age known."""
    root = dataset(
        *(f"sub-0{who}_ses-{when}_T1w.nii.gz" for who in (1, 2, 3, 5) for when in ("a", "b")),
        "sub-01_ses-b_run-2_T1w.nii.gz",
        "sub-04_ses-a_T1w.nii.gz",
        "sub-04_ses-a_run-2_T1w.nii.gz",
        participants="participant_id\tage\n01\t40\n02\t41\n03\t42\n04\t43\n05\tn/a\n",
        **{"02": "session_id\tage\nb\t44\n", "03": "session_id\tage\na\t42\nb\t45\n"},
    )
    scans, _ = find_scans([root], ALL)
    assert len(scans) == 11
    told = one_age_remark(scans, None)
    assert told.startswith("2 participants have several sessions but one age (01, ...)")
    assert "sub-<participant>_sessions.tsv" in told
    # A job for one session sees no other, and is as wrong.
    later, _ = find_scans([root], Selection(session_labels=("b",)))
    assert one_age_remark(later, None).startswith("1 participants")
    assert one_age_remark([s for s in scans if s.participant_id in {"03", "04", "05"}], None) == ""
    # Ages from a table that is given instead are one a participant just so.
    table = Participants(pd.DataFrame({"age": [50.0]}, index=["05"]))
    assert one_age_remark(scans, table).startswith("1 participants have several sessions but")
    assert "(05)" in one_age_remark(scans, table)


def test_a_data_set_needs_no_ages(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_T1w.nii.gz", participants="participant_id\tsex\nsub-01\tF\n")
    scans, _ = find_scans([root], ALL)
    assert scans[0].chronological_age is None


@pytest.mark.parametrize(
    ("participants", "ages", "says"),
    [
        # Hidden in another way than BIDS has, or no number at all.
        ("participant_id\tage\nsub-01\t>89\nsub-02\t40\n", [None, 40.0], "1 rows.*sub-01, '>89'"),
        ("age\tparticipant_id\n30\tsub-01\n1950\tsub-02\n", [30.0, None], "sub-02, '1950'"),
        ("participant_id\tage\nsub-01\t38,5\nsub-02\t40\n", [None, 40.0], "point .*'38,5'"),
        # A row a session: which of the ages is that of the scan?
        (
            "participant_id\tage\nsub-01\t30\nsub-01\t32\nsub-02\t40\n",
            [None, 40.0],
            "2 rows.*sub-01, '30'",
        ),
        # Cells would slip below their neighbours' names.
        ("participant_id\tage\nsub-01\t30\tx\nsub-02\t40\ty\n", [None, None], "cannot be read"),
        ("participant_id\tage\nsub-01\t30\nsub-02\t4\t5\t6\n", [None, None], "cannot be read"),
    ],
)
def test_a_data_set_s_own_ages_stop_nobody_and_what_is_unknown_is_said(
    dataset: Callable[..., Path], participants: str, ages: list[float | None], says: str
) -> None:
    root = dataset("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz", participants=participants)
    scans, remarks = find_scans([root], ALL)
    assert [scan.chronological_age for scan in scans] == ages
    assert len(remarks) == 1
    assert re.search(says, remarks[0])
    assert str(root / "participants.tsv") in remarks[0]


@pytest.mark.parametrize("header", ["participant_id,age", "participant_id\tAge", "ID\tage"])
def test_ages_that_the_header_hides_are_told(dataset: Callable[..., Path], header: str) -> None:
    row = "sub-01,30" if "," in header else "sub-01\t30"
    root = dataset("sub-01_T1w.nii.gz", participants=f"{header}\n{row}\n")
    scans, remarks = find_scans([root], ALL)
    assert scans[0].chronological_age is None
    assert len(remarks) == 1
    assert "must have the columns participant_id and age, separated by tabs" in remarks[0]


def test_blanks_around_a_name_are_no_part_of_it(dataset: Callable[..., Path]) -> None:
    root = dataset("sub-01_T1w.nii.gz", participants="participant_id\tage\nsub-01 \t 30 \n")
    assert find_scans([root], ALL)[0][0].chronological_age == 30.0


@pytest.mark.parametrize(
    ("units", "cells", "ages"),
    [
        ("months", ("480", "18"), [40.0, 1.5]),
        ("Month(s)", ("480", "18"), [40.0, 1.5]),
        # Four years of 365.25 days; 104 weeks are 728 days.
        ("days", ("1461", "n/a"), [4.0, None]),
        ("weeks", ("104", "89+"), [728 / 365.25, None]),
        ("age in years", ("40", "1.5"), [40.0, 1.5]),
        ("", ("40", "1.5"), [40.0, 1.5]),
    ],
)
def test_ages_are_in_the_units_that_the_data_set_states(
    dataset: Callable[..., Path], units: str, cells: tuple[str, str], ages: list[float | None]
) -> None:
    table = f"participant_id\tage\nsub-01\t{cells[0]}\nsub-02\t{cells[1]}\n"
    root = dataset("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz", participants=table)
    described = {"age": {"Description": "Age at entry", "Units": units}}
    (root / "participants.json").write_text(json.dumps(described), encoding="utf-8")
    scans, remarks = find_scans([root], ALL)
    assert [scan.chronological_age for scan in scans] == pytest.approx(ages)
    assert remarks == []
    given = read_participants(root / "participants.tsv")
    assert [given.age_of(name) for name in ("01", "02")] == pytest.approx(ages)


@pytest.mark.parametrize(
    ("sidecar", "says"),
    [
        ('{"age": {"Units": "z-score"}}', "must be years, months, weeks or days; found 'z-score'"),
        ('{"age": {"Units": "years, months"}}', "found 'years, months'"),
        ("{", "must be readable JSON"),
    ],
)
def test_units_that_are_none_of_time_leave_ages_unknown_and_a_given_table_unused(
    dataset: Callable[..., Path], sidecar: str, says: str
) -> None:
    root = dataset("sub-01_T1w.nii.gz", participants="participant_id\tage\nsub-01\t40\n")
    (root / "participants.json").write_text(sidecar, encoding="utf-8")
    scans, remarks = find_scans([root], ALL)
    assert scans[0].chronological_age is None
    assert len(remarks) == 1
    assert says in remarks[0]
    with pytest.raises(UsageError, match=re.escape(says)):
        read_participants(root / "participants.tsv")


def test_ages_at_sessions_have_the_units_of_their_own_table_or_of_all(
    dataset: Callable[..., Path],
) -> None:
    root = dataset(
        *(f"sub-{who}_ses-a_T1w.nii.gz" for who in ("01", "02")),
        **dict.fromkeys(("01", "02"), "session_id\tage\nses-a\t36\n"),
    )
    for path, units in (("sessions.json", "months"), ("sub-02/sub-02_sessions.json", "years")):
        (root / path).write_text(json.dumps({"age": {"Units": units}}), encoding="utf-8")
    scans, _ = find_scans([root], ALL)
    assert [scan.chronological_age for scan in scans] == [3.0, 36.0]


def test_tables_that_nobody_can_read_are_told_and_stop_nobody(
    dataset: Callable[..., Path],
) -> None:
    """Content of a link that was not fetched; a spreadsheet's "Unicode text"."""
    root = dataset("sub-01_T1w.nii.gz")
    table = root / "participants.tsv"
    table.symlink_to(root / ".git" / "annex" / "objects" / "x")
    scans, remarks = find_scans([root], ALL)
    assert scans[0].chronological_age is None
    assert remarks == [f"{table}: its ages are unknown, since it links to no file"]
    table.unlink()
    table.write_text("participant_id\tage\n01\t40\n", encoding="utf-16")
    scans, (remark,) = find_scans([root], ALL)
    assert scans[0].chronological_age is None
    assert "must be text in UTF-8" in remark
    assert remark.endswith("Its ages are unknown")


def test_hidden_ages_are_unknown_without_a_word(dataset: Callable[..., Path]) -> None:
    root = dataset(
        *(f"sub-01_ses-{when}_T1w.nii.gz" for when in ("a", "b")),
        participants="participant_id\tage\nsub-01\t89+\n",
        **{"01": "session_id\tage\nses-a\tn/a\nses-b\told\n"},
    )
    scans, remarks = find_scans([root], ALL)
    assert [scan.chronological_age for scan in scans] == [None, None]
    assert len(remarks) == 1
    assert "sub-01_sessions.tsv" in remarks[0]
    assert "ses-b, 'old'" in remarks[0]
