"""Targets of regional volumes: sides are one region, and what never varies teaches nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.training.region_targets import region_of_label, region_targets


def test_sides_are_one_region(tmp_path: Path) -> None:
    """By a name that both bear, or by its end where that is the side the table states."""
    path = tmp_path / "dseg.tsv"
    rows = [
        (1, "ventricle_L", "L"),
        (2, "ventricle_R", "R"),
        (5, "Accumbens Area", "R"),
        (6, "Accumbens Area", "L"),
        (7, "NA", "n/a"),
        (8, "lobe_L", "n/a"),
    ]
    table = pd.DataFrame(rows, columns=["index", "name", "hemisphere"])
    table.to_csv(path, sep="\t", index=False)
    found = region_of_label(path, [1, 2, 5, 6, 7, 8])
    accumbens = "Accumbens Area"
    assert found == ["ventricle", "ventricle", accumbens, accumbens, "NA", "lobe_L"]
    with pytest.raises(UsageError, match=r"dseg\.tsv.*\(9\)"):
        region_of_label(path, [1, 9])
    table.drop(columns="hemisphere").to_csv(path, sep="\t", index=False)
    with pytest.raises(UsageError, match="index, name and hemisphere"):
        region_of_label(path, [1])


def test_targets_by_hand() -> None:
    """Left and right add up to 3 and 5, which is 4 -+ 1; what never varies teaches nothing."""
    volumes = np.array([[1.0, 7.0, 2.0], [4.0, 7.0, 1.0]])
    found = region_targets(volumes, {4: "b", 5: "c", 9: "b"})
    assert found.tolist() == [[-1.0], [1.0]]
    with pytest.raises(UsageError, match="must vary"):
        region_targets(volumes[:, 1:2], {5: "c"})
