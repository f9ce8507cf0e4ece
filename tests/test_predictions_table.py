"""Tables of predictions: read whole, and refused with their fault."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.cohort import Participants
from ermoe_ba.errors import UsageError
from ermoe_ba.evaluation.out_of_fold import read_out_of_fold


def _write(path: Path, text: str) -> Path:
    path.write_text(text.replace(" ", "\t"), encoding="utf-8")
    return path


HEADER = "participant_id fold chronological_age predicted_age\n"


SOUND = HEADER + "a 0 20 22\nb 1 30.5 29\nNA 1 40 44\n"


def test_rows_are_read_with_their_people_folds_and_ages(tmp_path: Path) -> None:
    table = pd.DataFrame({"age": [1.0, 2], "sex": ["M", np.nan]}, index=["b", "NA"])
    rows = read_out_of_fold(_write(tmp_path / "p.tsv", SOUND), Participants(table))
    assert rows.participants.tolist() == ["a", "b", "NA"]
    assert rows.folds.tolist() == [0, 1, 1]
    assert rows.gap.tolist() == [2, -1.5, 4]
    assert rows.decades.tolist() == [20, 30, 40]
    assert {k: v.tolist() for k, v in rows.groups.items()} == {"sex": ["n/a", "M", "n/a"]}
    assert rows.folds_given
    assert rows.left_out == {}
    assert rows.given_interval is None


def test_rows_that_cannot_be_judged_are_left_out_and_counted(tmp_path: Path) -> None:
    text = (
        "participant_id status chronological_age predicted_age predicted_age_lower "
        "predicted_age_upper\n"
        "sub-a ok 20 22 12 32\nb refused 30 n/a n/a n/a\nc ok n/a 41 31 51\nd ok 50 n/a n/a n/a\n"
        "e ok 60 61 51 71\nf ok 89+ 70 60 80\ng ok 70 64 54 74\n"
    )
    rows = read_out_of_fold(_write(tmp_path / "p.tsv", text))
    assert rows.participants.tolist() == ["a", "e", "g"]
    assert rows.used.tolist() == [True, False, False, False, True, False, True]
    assert rows.left_out == {
        "status is not ok": 1,
        "no chronological_age": 2,
        "no predicted_age": 1,
    }
    assert rows.given_interval is not None
    assert rows.given_interval.tolist() == [[12, 51, 54], [32, 71, 74]]


def test_without_folds_people_are_parted_and_kept_whole(tmp_path: Path) -> None:
    lines = [f"{n % 9} {20 + n} {25 + n}\n" for n in range(31)]
    text = "participant_id chronological_age predicted_age\n" + "".join(lines)
    rows = read_out_of_fold(_write(tmp_path / "p.tsv", text))
    assert not rows.folds_given
    assert len(rows.fold_names) == 5
    parted = pd.Series(rows.folds).groupby(rows.participants).nunique()
    assert (parted == 1).all()
    # One fold alone is no cross-validation.
    one = _write(tmp_path / "one.tsv", SOUND.replace(" 1 ", " 0 "))
    assert not read_out_of_fold(one).folds_given


def test_a_scan_that_stands_twice_is_refused_and_a_repeated_scan_is_not(tmp_path: Path) -> None:
    """Twice in the table it would be a repetition that agrees with itself to the last digit."""
    head = "participant_id scan chronological_age predicted_age\n"
    people = "a a_run-1 20 22\nb b 30.5 29\nc c 40 44\n"
    repeated = people + "sub-a a_run-2 20 23\n"
    assert len(read_out_of_fold(_write(tmp_path / "p.tsv", head + repeated)).gap) == 4
    # Named after their sequence, scans differ by what else is told of them.
    later = _write(tmp_path / "later.tsv", head + people + "b b 33 31\n")
    assert len(read_out_of_fold(later).gap) == 4
    for twice in ("a a_run-1 20 22\n", "sub-a a_run-1 20 25\n"):
        path = _write(tmp_path / "twice.tsv", head + people + twice)
        with pytest.raises(UsageError, match="each scan must stand once; found 'a_run-1' of a"):
            read_out_of_fold(path)
    # Where a table names no scans, nothing tells two rows from two scans.
    unnamed = _write(tmp_path / "unnamed.tsv", SOUND + "NA 1 40 44\n")
    assert len(read_out_of_fold(unnamed).gap) == 4


@pytest.mark.parametrize(
    "spoil", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n")]
)
def test_marks_and_line_ends_of_other_systems_change_nothing(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """A byte order mark stands before the first column's name, a return after the last one's."""
    path = _write(tmp_path / "p.tsv", SOUND)
    plain = read_out_of_fold(path)
    path.write_bytes(spoil(path.read_bytes()))
    found = read_out_of_fold(path)
    assert found.source.columns.tolist() == plain.source.columns.tolist()
    assert found.participants.tolist() == plain.participants.tolist()
    assert found.gap.tolist() == plain.gap.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant_id age\na 3\n", "missing: chronological_age, predicted_age"),
        (SOUND + "d 0 fifty 30\n", "from 0 to 123, or n/a; found 'fifty' for d"),
        (SOUND + "d 0 19480101 30\n", "found '19480101' for d"),
        (SOUND + "d 0 38,5 30\n", "found '38,5' for d. Write decimals after a point"),
        (SOUND + "d 0 -1 30\n", "found '-1' for d"),
        (SOUND + "d 0 NaN 30\n", "found 'NaN' for d"),
        (SOUND + "d 0 50 inf\n", "that is finite, or n/a; found 'inf' for d"),
        (SOUND + "a 1 20 21\n", "found a in folds 0, 1"),
        (SOUND + "d n/a 50 51\n", "found d without"),
        (SOUND + " 1 50 51\n", "found one without"),
        (SOUND + "d 1 50 51 7\n", "cannot be read|as many cells"),
        (HEADER + "a 0 20 21\nb 1 30 31\nb 1 40 41\n", "found 2 participants and 3 ages"),
        (HEADER + "a 0 20 21\nb 1 20 31\nc 1 20 41\n", "found 3 participants and 1 ages"),
        ("", "cannot be read"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = _write(tmp_path / "wrong.tsv", text)
    with pytest.raises(UsageError, match=message) as caught:
        read_out_of_fold(path)
    assert str(path) in str(caught.value)


def test_spaces_around_names_of_columns_are_no_part_of_them(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    text = SOUND.replace(" ", "\t").replace("predicted_age\n", " predicted_age \n")
    path.write_text(text, encoding="utf-8")
    assert read_out_of_fold(path).predicted.tolist() == [22, 29, 44]
    path.write_text(text.replace("fold", "predicted_age"), encoding="utf-8")
    with pytest.raises(UsageError, match="names a column twice"):
        read_out_of_fold(path)


def test_another_encoding_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_bytes(SOUND.replace(" ", "\t").encode("utf-16"))
    with pytest.raises(UsageError, match=r"must be text in UTF-8; found another encoding.*Save"):
        read_out_of_fold(path)


def test_a_participants_table_of_other_people_is_refused(tmp_path: Path) -> None:
    """Whoever takes the wrong table would find everybody's sex unknown, and not why."""
    path = _write(tmp_path / "p.tsv", SOUND)
    others = Participants(pd.DataFrame({"age": [1.0], "sex": ["M"]}, index=["x"]))
    with pytest.raises(UsageError, match=r"found none of them\. .* stand NA, a, b, in the table x"):
        read_out_of_fold(path, others)


def test_an_interval_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    text = HEADER.replace("\n", " predicted_age_lower predicted_age_upper\n")
    sound = text + "a 0 20 22 12 32\nb 1 30 29 29 29\nc 1 40 44 34 54\n"
    found = read_out_of_fold(_write(tmp_path / "sound.tsv", sound)).given_interval
    assert found is not None
    assert found.tolist() == [[12, 29, 34], [32, 29, 54]]
    with pytest.raises(UsageError, match=r"_lower must not lie above .* 54 and 34 for c"):
        read_out_of_fold(_write(tmp_path / "p.tsv", sound.replace("34 54", "54 34")))


def test_spaces_around_a_name_make_nobody_else(tmp_path: Path) -> None:
    """With one, a person would stand in two folds unseen."""
    path = tmp_path / "p.tsv"
    path.write_text((SOUND + "b~ 0 35 36\n").replace(" ", "\t").replace("~", " "), "utf-8")
    with pytest.raises(UsageError, match="found b in folds 0, 1"):
        read_out_of_fold(path)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.tsv: the predictions cannot be read"):
        read_out_of_fold(tmp_path / "none.tsv")
