"""Folds: complete, disjoint, balanced in age and site, and read as they were written."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.cohort import Participants
from ermoe_ba.errors import UsageError
from ermoe_ba.splits import make_splits, read_splits, split_folds


def _people(ages: list[float]) -> Participants:
    ids = pd.Index([f"{n:03d}" for n in range(len(ages))], name="participant_id")
    return Participants(pd.DataFrame({"age": ages}, index=ids))


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
