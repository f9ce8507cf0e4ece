"""The participants table is read strictly, and what it may not say is named."""

from pathlib import Path

import pytest

from ermoe_ba.cohort import read_participants
from ermoe_ba.errors import UsageError


def _table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "participants.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_participants_are_read_in_the_file_s_order(tmp_path: Path) -> None:
    path = _table(tmp_path, "participant_id\tsex\tage\nsub-02\tF\t61.5\nsub-01\tM\t20\n")
    table = read_participants(path).table
    assert table.index.tolist() == ["02", "01"]
    assert table["age"].tolist() == [61.5, 20.0]
    assert table["sex"].tolist() == ["F", "M"]


def test_an_id_needs_no_prefix_and_keeps_its_zeros(tmp_path: Path) -> None:
    path = _table(tmp_path, "participant_id\tage\n007\t50\n0100\t60\n")
    assert read_participants(path).table.index.tolist() == ["007", "0100"]


def test_only_the_leading_prefix_is_taken_off(tmp_path: Path) -> None:
    path = _table(tmp_path, "participant_id\tage\nsub-sub-a\t50\n")
    assert read_participants(path).table.index.tolist() == ["sub-a"]


def test_an_unknown_age_is_none_and_not_labelled(tmp_path: Path) -> None:
    path = _table(tmp_path, "participant_id\tage\nsub-a\tn/a\nsub-b\t44\n")
    people = read_participants(path)
    assert people.age_of("a") is None
    assert people.age_of("b") == 44.0
    assert people.labelled.table.index.tolist() == ["b"]


def test_ages_may_all_be_unknown(tmp_path: Path) -> None:
    people = read_participants(_table(tmp_path, "participant_id\tage\nsub-a\tn/a\nsub-b\tn/a\n"))
    assert people.age_of("a") is None
    assert people.labelled.table.empty


def test_a_stranger_has_no_age(tmp_path: Path) -> None:
    people = read_participants(_table(tmp_path, "participant_id\tage\nsub-a\t44\n"))
    with pytest.raises(KeyError):
        people.age_of("b")


@pytest.mark.parametrize(
    "rows", ["sub-a\t44\nsub-a\t45\n", "sub-a\t44\na\t44\n", "sub-a \t44\na\t44\n"]
)
def test_a_participant_who_stands_twice_is_refused_by_name(tmp_path: Path, rows: str) -> None:
    with pytest.raises(UsageError, match=r"participants\.tsv.*'a'"):
        read_participants(_table(tmp_path, "participant_id\tage\nsub-b\t1\n" + rows))


@pytest.mark.parametrize("name", ["", "  "])
def test_a_row_without_an_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="participant_id"):
        read_participants(_table(tmp_path, f"participant_id\tage\nsub-a\t44\n{name}\t45\n"))


def test_an_id_that_reads_like_a_gap_is_an_id(tmp_path: Path) -> None:
    path = _table(tmp_path, "participant_id\tage\nNA\t44\nnull\t45\n")
    assert read_participants(path).table.index.tolist() == ["NA", "null"]


@pytest.mark.parametrize(
    ("header", "missing"),
    [("participant_id\tyears", "age"), ("subject\tage", "participant_id")],
)
def test_a_missing_column_is_named(tmp_path: Path, header: str, missing: str) -> None:
    with pytest.raises(UsageError, match=rf"missing: {missing}\."):
        read_participants(_table(tmp_path, f"{header}\nsub-a\t44\n"))


def test_a_table_parted_by_commas_is_refused_with_both_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tab-separated.*missing: age, participant_id"):
        read_participants(_table(tmp_path, "participant_id,age\nsub-a,44\n"))


def test_a_header_of_other_names_is_shown(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"missing: age\. Its header holds 'participant_id', 'Age'"
    ):
        read_participants(_table(tmp_path, "participant_id\tAge\nsub-a\t44\n"))


def test_decimals_after_a_comma_are_refused_with_the_way_to_write_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"after a point \(38\.5\).*found '44,5' for a\."):
        read_participants(_table(tmp_path, "participant_id\tage\nsub-a\t44,5\n"))


def test_spaces_around_cells_and_names_of_columns_are_no_part_of_them(tmp_path: Path) -> None:
    """Else one site is two, and an unknown age is none."""
    rows = "sub-a\t44 \tLeeds\nsub-b\t n/a\tLeeds \nsub-c\t45\tn/a \n"
    table = read_participants(_table(tmp_path, f"participant_id\t age\tsite \n{rows}")).table
    assert table["age"].fillna(-1).tolist() == [44.0, -1.0, 45.0]
    assert table["site"].fillna("?").tolist() == ["Leeds", "Leeds", "?"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_tables_of_other_systems_are_read(tmp_path: Path, encoding: str) -> None:
    """With the mark that a spreadsheet puts before the first column, and its ends of lines."""
    path = tmp_path / "participants.tsv"
    path.write_bytes("participant_id\tage\r\nsub-a\t44\r\n".encode(encoding))
    assert read_participants(path).age_of("a") == 44.0


def test_another_encoding_is_told_by_its_name(tmp_path: Path) -> None:
    """What spreadsheets call "Unicode text"."""
    path = tmp_path / "participants.tsv"
    path.write_bytes("participant_id\tage\r\nsub-a\t44\r\n".encode("utf-16"))
    with pytest.raises(UsageError, match=r"must be text in UTF-8; found another encoding.*Save"):
        read_participants(path)


@pytest.mark.parametrize("age", ["1950", "-1", "124", "inf", "fifty", "1950-03-02"])
def test_what_is_no_age_is_refused_with_value_and_name(tmp_path: Path, age: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_participants(_table(tmp_path, f"participant_id\tage\nsub-b\t30\nsub-a\t{age}\n"))
    found = str(caught.value).split("found ")[1]
    assert age in found
    assert found.endswith("for a.")
    assert "np." not in found, "a reader need not know how numpy writes its numbers"


@pytest.mark.parametrize("age", ["0", "0.5", "122"])
def test_the_youngest_and_the_oldest_are_people_too(tmp_path: Path, age: str) -> None:
    people = read_participants(_table(tmp_path, f"participant_id\tage\nsub-a\t{age}\n"))
    assert people.age_of("a") == float(age)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"participant_id\tage\nsub-a\t4\nsub-b\t5\t6\n",
        b"participant_id\tage\n\xff\t4\n",
        b"participant_id\tage\tage \nsub-a\t4\t5\n",
    ],
    ids=["empty", "ragged", "not UTF-8", "one column twice"],
)
def test_an_unreadable_table_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "participants.tsv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"participants\.tsv"):
        read_participants(path)


def test_rows_longer_than_the_header_are_refused(tmp_path: Path) -> None:
    """Else a column moves up: sub-a would become the row's label, F the id and 44 the age."""
    with pytest.raises(UsageError, match=r"participants\.tsv"):
        read_participants(_table(tmp_path, "participant_id\tage\nsub-a\tF\t44\nsub-b\tM\t50\n"))


def test_an_absent_table_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.tsv", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_participants(path)
