"""Tables of labels: in whatever form they come, with the side where it is told."""

from pathlib import Path
from typing import Any

import pytest
from quick_batch import write_labels

from ermoe_ba.atlas import load_atlas
from ermoe_ba.errors import UsageError
from ermoe_ba.label_tables import hemisphere_of, read_labels


def _table(path: Path, text: str) -> list[list[Any]]:
    path.write_text(text, encoding="utf-8")
    return read_labels(path)[["index", "name", "hemisphere"]].to_numpy().tolist()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bids.tsv", "index\tname\n2\tHIP-lh\n7\tLV\n"),
        ("freesurfer.txt", "# No. Label R G B A\n2   HIP-lh  1 2 3 0\n\n7 LV 4 5 6 0\n"),
        ("uncoloured.txt", "2 HIP-lh\n7 LV\n"),
        ("workbench.txt", "HIP-lh\n2 1 2 3 255\nLV\n7 4 5 6 255\n"),
    ],
)
def test_one_table_in_four_forms(tmp_path: Path, name: str, text: str) -> None:
    assert _table(tmp_path / name, text) == [[2, "HIP-lh", "L"], [7, "LV", "n/a"]]


def test_lists_count_from_one_in_text_and_from_zero_in_json(tmp_path: Path) -> None:
    assert _table(tmp_path / "a.txt", "HIP-rh\n4V\n") == [[1, "HIP-rh", "R"], [2, "4V", "n/a"]]
    listed = _table(tmp_path / "a.json", '{"labels": ["Air", "OB"], "R": [0, 1]}')
    assert listed == [[0, "Air", "n/a"], [1, "OB", "n/a"]]


def test_the_tables_own_hemispheres_count_before_the_names(tmp_path: Path) -> None:
    rows = _table(tmp_path / "a.tsv", "index\tname\themisphere\n1\tLeft-x\tR\n")
    assert rows == [[1, "Left-x", "R"]]


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("a.tsv", "number\tname\n1\tx\n", "columns index and name"),
        ("a.tsv", "index\tname\n1\tx\n1\ty\n", "each once"),
        ("a.tsv", "index\tname\none\tx\n", "whole numbers"),
        ("a.txt", "HIP-rh\n1 2 3 4 255\nAMY\n", "more than one form"),
        ("a.json", '{"names": []}', "cannot be read"),
        ("a.json", "{", "cannot be read"),
        ("a.xml", "<labels/>", "must end in"),
    ],
)
def test_a_table_of_no_known_form_is_refused(
    tmp_path: Path, file: str, text: str, why: str
) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=why):
        read_labels(tmp_path / file)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("Left-Thalamus", "L"),
        ("ctx-rh-insula", "R"),
        ("7Networks_LH_Vis_1", "L"),
        ("Insula_R", "R"),
        ("Insula L", "L"),
        ("right amygdala", "R"),
        ("Rhinal", "n/a"),
        ("leftover", "n/a"),
        ("CSF", "n/a"),
        ("ventricle 4L", "n/a"),
    ],
)
def test_the_side_is_read_from_a_name_only_where_it_stands_there(name: str, side: str) -> None:
    assert hemisphere_of(name) == side


def test_labels_that_the_table_leaves_out_are_regions_all_the_same(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "atlas.nii.gz", {(45, 55, 45): 7})
    (tmp_path / "atlas.tsv").write_text("index\tname\n3\tcube\n99\tgone\n", encoding="utf-8")
    labels = load_atlas(str(path)).labels
    assert labels[["index", "name", "hemisphere"]].to_numpy().tolist() == [
        [3, "cube", "n/a"],
        [7, "label 7", "n/a"],
    ]
