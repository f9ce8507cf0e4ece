"""Maps of a cohort that were kept: the page is made of them alone, and of all of them."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from maps_content import MASK, write_maps

from ermoe_ba.cli.main import main
from ermoe_ba.maps.files import ATLAS, DESCRIPTION, EXPERTS, MEAN_WEIGHTS, PAGE, REGIONS


def _on_other_grid(path: Path) -> None:
    nib.Nifti1Image(np.zeros((9, 9, 9, 2)), np.diag([3.0, 3, 3, 1])).to_filename(path)


def _without_a_column(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.split("\t", 1)[1] for line in lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "spoil", "why"),
    [
        (DESCRIPTION, Path.unlink, "must be readable JSON; found FileNotFoundError"),
        (DESCRIPTION, lambda path: path.write_text("{}"), "maps of this version; found no part"),
        (REGIONS, Path.unlink, "must be a table with the columns expert, kind, index"),
        (EXPERTS, _without_a_column, "found KeyError: 'expert'"),
        (ATLAS, Path.unlink, "must stand beside maps.json; found none"),
        (MEAN_WEIGHTS, _on_other_grid, "found (9, 9, 9, 2) voxels of [3.0, 3.0, 3.0] mm from"),
        # Of another call, with three experts.
        (
            MEAN_WEIGHTS,
            lambda path: nib.Nifti1Image(
                np.zeros((*MASK.grid.shape, 3)), MASK.grid.affine
            ).to_filename(path),
            "must have the shape (91, 109, 91, 2)",
        ),
    ],
    ids=["no json", "old", "no table", "no column", "no map", "other grid", "other experts"],
)
def test_maps_that_lack_a_file_are_refused_by_its_name(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    spoil: Callable[[Path], None],
    why: str,
) -> None:
    folder = write_maps(tmp_path)
    spoil(folder / name)
    assert main(["report", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{folder / name}: " in said
    assert why in said
    assert "Make the maps again" in said
    assert not (folder / PAGE).exists()


def test_the_page_of_maps_takes_no_other_model_or_atlas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_maps(tmp_path)
    assert main(["report", str(folder), "--atlas", "MUSEIXI", "--model", "ixi-hh"]) == 2
    assert "found --model, --atlas. Leave it out" in capsys.readouterr().err
    assert not (folder / PAGE).exists()
