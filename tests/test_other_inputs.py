"""Files that a recipe names are known again by what they hold, and a run by them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ermoe_ba.assets import template
from ermoe_ba.atlas import atlas_hash, load_atlas
from ermoe_ba.errors import UsageError
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder, read_card
from ermoe_ba.model_identity import model_identity
from ermoe_ba.space import MODEL_GRID
from ermoe_ba.study import Study
from ermoe_ba.training.claimed_folder import ClaimedFolder
from ermoe_ba.training.other_inputs import other_inputs
from ermoe_ba.training.recipe import Recipe, read_recipe

SITE = Path(__file__).parents[1] / "pipelines" / "site.toml"


@pytest.fixture
def recipe() -> Recipe:
    """A recipe that names a stem and nothing else."""
    return read_recipe(SITE)


def _tied(recipe: Recipe, atlas: Path) -> Recipe:
    model = replace(
        recipe.model,
        regions=("front", *recipe.model.regions[1:]),
        region_atlas=str(atlas),
        region_labels={"front": ("Front",)},
    )
    return replace(recipe, model=model)


def _write_atlas(path: Path, first: int) -> None:
    data = (template("desc-brain_mask").data > 0).astype(np.int16)
    data[:first] = 0
    nib.save(nib.Nifti1Image(data, MODEL_GRID.affine), path)
    table = pd.DataFrame({"index": [1], "name": ["Front"]})
    table.to_csv(path.with_name("tiny_dseg.tsv"), sep="\t", index=False)


def test_a_stem_is_known_by_its_weights(recipe: Recipe, tmp_path: Path) -> None:
    folder = model_folder(DEFAULT_MODEL)
    found = other_inputs(recipe, tmp_path)
    assert found == {"run.stem": model_identity(folder, read_card(folder))}


def test_a_label_table_is_known_by_its_bytes(tmp_path: Path) -> None:
    recipe = read_recipe(SITE.with_name("ixi_hh.toml"))
    recipe = replace(recipe, run=replace(recipe.run, label_table="labels.tsv"))
    (tmp_path / "labels.tsv").write_bytes(b"index\ttissue\n")
    wanted = hashlib.sha256(b"index\ttissue\n").hexdigest()
    (found,) = other_inputs(recipe, tmp_path).items()
    assert found[0] == "run.label_table"
    assert wanted.startswith(found[1])
    assert len(found[1]) == 16


def test_a_folder_is_refused_once_an_atlas_by_its_path_has_changed(
    recipe: Recipe, tmp_path: Path
) -> None:
    """Folds of one run would else have other regions."""
    atlas = tmp_path / "tpl-MNI152NLin2009aSym_atlas-tiny_dseg.nii.gz"
    _write_atlas(atlas, 20)
    tied = _tied(recipe, atlas)
    assert other_inputs(tied, tmp_path)["model.region_atlas"] == atlas_hash(load_atlas(str(atlas)))
    study = Study(root=tmp_path, scans=(), table=pd.DataFrame(), remarks=())
    folder = ClaimedFolder(tmp_path / "run")
    digest = folder.claim(tied, study)
    assert folder.claim(tied, study) == digest
    assert folder.holds(tied, study)
    _write_atlas(atlas, 21)
    assert not folder.holds(tied, study)
    with pytest.raises(UsageError, match="stem or atlas that has changed since"):
        folder.claim(tied, study)
