"""The participants table is read strictly; folds are complete, disjoint and balanced in age."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.cohort import Participants, read_participants
from ermoe_ba.errors import UsageError
from ermoe_ba.splits import make_splits, read_splits, split_folds


def _table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "participants.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def _people(ages: list[float]) -> Participants:
    ids = pd.Index([f"{n:03d}" for n in range(len(ages))], name="participant_id")
    return Participants(pd.DataFrame({"age": ages}, index=ids))


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


# Folds


def test_each_participant_stands_in_one_fold_of_equal_size() -> None:
    people = _people([float(age) for age in range(20, 73)])
    folds = split_folds(people, 5, seed=3)
    assert folds.name == "fold"
    assert folds.index.equals(people.table.index)
    # 53 people in 5 folds: three of 11 and two of 10.
    assert sorted(np.bincount(folds, minlength=5).tolist()) == [10, 10, 11, 11, 11]


def test_each_fifth_of_the_ages_is_shared_out_evenly() -> None:
    """100 people in 5 folds: each tenth of the ages is 10 people, two a fold."""
    ages = np.random.default_rng(2).permutation(np.linspace(20, 90, 100))
    folds = split_folds(_people(ages.tolist()), 5, seed=3).to_numpy()
    tenth = ages.argsort().argsort() // 10
    counts = np.zeros((10, 5), dtype=int)
    np.add.at(counts, (tenth, folds), 1)
    np.testing.assert_array_equal(counts, 2)


def test_the_same_seed_gives_the_same_folds_and_another_gives_others() -> None:
    people = _people(np.linspace(20, 90, 60).tolist())
    first = split_folds(people, 4, seed=3)
    assert first.equals(split_folds(people, 4, seed=3))
    assert not first.equals(split_folds(people, 4, seed=4))


def test_folds_do_not_depend_on_numpy_s_global_state() -> None:
    people = _people(np.linspace(20, 90, 60).tolist())
    np.random.seed(1)  # noqa: NPY002
    first = split_folds(people, 4, seed=3)
    np.random.seed(2)  # noqa: NPY002
    assert first.equals(split_folds(people, 4, seed=3))


def test_as_many_folds_as_people_leave_one_out_each() -> None:
    folds = split_folds(_people([30.0, 40.0, 50.0]), 3, seed=3)
    assert sorted(folds.tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    "ages",
    [[25.0] * 30 + [float(age) for age in range(40, 60)], [33.0] * 50],
    ids=["most of one age", "all of one age"],
)
def test_people_of_one_age_can_be_split(ages: list[float]) -> None:
    """Ages in whole years of a student cohort: more than a tenth of them are equal."""
    folds = split_folds(_people(ages), 5, seed=3).to_numpy()
    assert np.bincount(folds, minlength=5).tolist() == [10] * 5
    shares = np.bincount(folds[np.array(ages) == ages[0]], minlength=5)
    assert shares.max() - shares.min() <= 1


# Sites, repeats, tables


def _sited(sites: dict[str, int]) -> Participants:
    """So many people of each site, each site of all ages."""
    rows = [(s, 20.0 + 60 * n / count) for s, count in sites.items() for n in range(count)]
    ids = pd.Index([f"{n:03d}" for n in range(len(rows))], name="participant_id")
    return Participants(pd.DataFrame(rows, columns=["site", "age"], index=ids))


def test_each_site_is_shared_out_over_the_folds() -> None:
    """20, 45 and 10 people in 5 folds: 4, 9 and 2 of each in every fold."""
    people = _sited({"a": 20, "b": 45, "c": 10})
    folds = split_folds(people, 5, seed=1)
    counts = pd.crosstab(people.table["site"], folds)
    assert counts.to_numpy().tolist() == [[4] * 5, [9] * 5, [2] * 5]


def test_sites_too_small_for_every_fold_are_shared_out_together() -> None:
    """Five sites of two people: ten in five folds, two in each."""
    people = _sited({"a": 30, **{f"s{n}": 2 for n in range(5)}})
    folds = split_folds(people, 5, seed=1)
    small = people.table["site"] != "a"
    assert np.bincount(folds[small]).tolist() == [2] * 5
    # Two people cannot stand in five folds; they are nevertheless split.
    assert len(split_folds(_sited({"a": 30, "b": 2}), 5, seed=1)) == 32


def test_one_site_for_all_changes_no_fold() -> None:
    people = _people(np.linspace(20, 90, 57).tolist())
    sited = Participants(people.table.assign(site="HH"))
    assert split_folds(sited, 5, seed=3).equals(split_folds(people, 5, seed=3))


def test_repeats_are_other_draws_and_leave_the_first_as_it_is() -> None:
    people = _people(np.linspace(20, 90, 60).tolist())
    table = make_splits(people, "stratified", 4, 3, seed=3)
    assert list(table.columns) == ["fold", "fold_repeat_1", "fold_repeat_2"]
    assert table["fold"].equals(split_folds(people, 4, seed=3))
    assert (table["fold"] != table["fold_repeat_1"]).any()
    assert (table["fold_repeat_1"] != table["fold_repeat_2"]).any()


def test_each_site_is_left_out_once() -> None:
    people = _sited({"york": 3, "bath": 2})
    folds = make_splits(people, "leave-site-out", 2, 1, seed=1)["fold"]
    # In the order of the sites' names.
    assert folds.tolist() == [1, 1, 1, 0, 0]


def test_sites_must_be_known_and_as_many_as_folds() -> None:
    people = _sited({"york": 3, "bath": 2})
    with pytest.raises(UsageError, match=r"num_folds = 2 .* bath, york; found 3"):
        make_splits(people, "leave-site-out", 3, 1, seed=1)
    unknown = Participants(people.table.assign(site=[None, *people.table["site"][1:]]))
    with pytest.raises(UsageError, match=r"none for 1 \(first: 000\)"):
        make_splits(unknown, "leave-site-out", 2, 1, seed=1)
    with pytest.raises(UsageError, match="none for 2"):
        make_splits(_people([20.0, 30.0]), "leave-site-out", 2, 1, seed=1)


def test_more_folds_than_people_are_refused() -> None:
    with pytest.raises(UsageError, match="5 folds need as many participants; found 3"):
        make_splits(_people([20.0, 30.0, 40.0]), "stratified", 5, 1, seed=1)
    # Inner folds as well, which choose settings among the people of a fold.
    with pytest.raises(UsageError, match="5 folds need as many participants; found 3"):
        split_folds(_people([20.0, 30.0, 40.0]), 5, seed=1)


def _splits(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "splits.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_splits_are_read_as_they_were_written(tmp_path: Path) -> None:
    people = _people(np.linspace(20, 90, 12).tolist())
    table = make_splits(people, "stratified", 3, 2, seed=3)
    path = _splits(tmp_path, table.reset_index().to_csv(sep="\t", index=False))
    assert read_splits(path, people, 3, 2).equals(table)


def test_spaces_in_a_table_of_folds_make_nobody_a_stranger(tmp_path: Path) -> None:
    path = _splits(tmp_path, "participant_id \tfold\r\n sub-000 \t1 \r\n001\t 0\r\n")
    assert read_splits(path, _people([20.0, 30.0]), 2, 1)["fold"].to_dict() == {"000": 1, "001": 0}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("000\t0\n001\t1\n002\t0\n001\t0\n", "001 has several rows"),
        ("000\t0\nsub-000\t0\n001\t1\n002\t1\n", "000 has several rows"),
        ("000\t0\n001\t1\n", "1 of them have no fold: 002"),
        ("000\t0\n001\t1\n002\t0\n9\t1\n", "1 of them take no part: 9"),
        ("000\t0\n001\t1\n002\t2\n", "folds 0 to 1.*found 0, 1, 2"),
        ("000\t0\n001\t0\n002\t0\n", "folds 0 to 1.*found 0"),
        ("000\ta\n001\t1\n002\t0\n", "folds 0 to 1.*found 0, 1, a"),
    ],
    ids=["twice", "with and without sub-", "missing", "unknown", "a fold more", "empty", "no fold"],
)
def test_wrong_folds_are_refused_by_name(tmp_path: Path, rows: str, says: str) -> None:
    people = _people([20.0, 30.0, 40.0])
    with pytest.raises(UsageError, match=says):
        read_splits(_splits(tmp_path, f"participant_id\tfold\n{rows}"), people, 2, 1)


def test_folds_need_their_columns_and_a_file(tmp_path: Path) -> None:
    people = _people([20.0, 30.0])
    path = _splits(tmp_path, "participant_id\tfold\n000\t0\n001\t1\n")
    with pytest.raises(UsageError, match="must have the columns fold_repeat_1"):
        read_splits(path, people, 2, 2)
    with pytest.raises(UsageError, match=r"absent\.tsv.*cannot be read"):
        read_splits(tmp_path / "absent.tsv", people, 2, 1)
