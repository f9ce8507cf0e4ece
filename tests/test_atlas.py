"""Atlases: bundled ones are what the registry says, and users' come in every form they bring."""

import hashlib
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ermoe_ba.assets import atlas_root, template
from ermoe_ba.atlas import AS_MADE, load_atlas, registry
from ermoe_ba.errors import UsageError
from ermoe_ba.io import read_volume
from ermoe_ba.label_tables import read_labels
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE

ENTRIES = registry()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# What is bundled


@pytest.mark.parametrize("name", ENTRIES)
def test_the_files_of_a_bundled_atlas_are_those_of_the_registry(name: str) -> None:
    entry = ENTRIES[name]
    assert set(entry["sha256"]) == {"file", "labels", "licence_file"}
    for key, expected in entry["sha256"].items():
        assert _sha256(atlas_root() / entry[key]) == expected, key
    assert name in (atlas_root() / entry["citation"]).read_text(encoding="utf-8")
    assert entry["space"] == TEMPLATE_SPACE


def test_the_files_of_the_template_are_those_of_the_registry() -> None:
    content = tomllib.loads((atlas_root() / "registry.toml").read_text(encoding="utf-8"))
    entry = content["template"][TEMPLATE_SPACE]
    folder = atlas_root() / entry["folder"]
    held = {path.name for path in folder.iterdir()} - {Path(entry["citation"]).name}
    assert set(entry["sha256"]) == held
    for file, expected in entry["sha256"].items():
        assert _sha256(folder / file) == expected, file


def test_nothing_is_bundled_that_the_registry_does_not_know() -> None:
    known = {Path(entry["file"]).parent.name for entry in ENTRIES.values()}
    found = {path.name for path in atlas_root().iterdir() if path.is_dir()}
    assert found == known | {f"tpl-{TEMPLATE_SPACE}"}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_bundled_atlas_names_all_its_labels_and_knows_left_from_right(name: str) -> None:
    atlas = load_atlas(name)
    assert atlas.dseg.grid == MODEL_GRID
    table = read_labels(atlas_root() / ENTRIES[name]["labels"])
    present = np.unique(atlas.dseg.data)
    assert set(present[present > 0]) - set(table["index"]) == set(ENTRIES[name].get("unnamed", []))
    assert set(atlas.labels["hemisphere"]) <= {"L", "R", "n/a"}
    sided = atlas.labels[atlas.labels["hemisphere"] != "n/a"]
    for index, side in zip(sided["index"], sided["hemisphere"], strict=True):
        # The grid's first voxel lies at x = -90 mm, and voxels are 2 mm.
        x_mm = np.nonzero(atlas.dseg.data == index)[0] * 2.0 - 90.0
        assert (x_mm.mean() < 0) == (side == "L"), index


def test_what_the_source_leaves_without_a_name_says_so_in_its_place() -> None:
    """Two labels of MUSE have none: the rows are there, for shares must add up."""
    labels = load_atlas("MUSEIXI").labels.set_index("index")
    nameless = labels[labels["name"].str.contains("no name in the source")]
    assert nameless["name"].to_dict() == {
        46: "label 46 (no name in the source)",
        69: "label 69 (no name in the source)",
    }
    assert set(nameless["hemisphere"]) == {"n/a"}
    assert labels.loc[47, "name"] == "Hippocampus"


def test_the_bundled_atlases_say_how_they_were_sampled() -> None:
    assert load_atlas("ICBMTissue").sampling == load_atlas("MUSEIXI").sampling == AS_MADE
    assert "146 x 182 x 155 voxels of 1 x 1 x 1 mm" in load_atlas("DesikanKilliany").sampling


def test_tissue_is_grey_where_grey_is_likeliest() -> None:
    labels = load_atlas("ICBMTissue").dseg.data
    grey, white = (template(f"label-{t}_probseg").data.astype(int) for t in ("GM", "WM"))
    brain = template("desc-brain_mask").data > 0
    assert ((labels > 0) == brain).all()
    assert (grey[labels == 1] >= white[labels == 1]).all()
    assert (white[labels == 2] > grey[labels == 2]).all()
    assert (255 - grey - white)[labels == 3].min() > 255 / 3 - 1


def test_desikan_killiany_has_eighty_three_regions_of_either_side() -> None:
    sides = load_atlas("DesikanKilliany").labels["hemisphere"].value_counts()
    assert sides.to_dict() == {"L": 41, "R": 41, "n/a": 1}


# Atlases by path: a block to the right of the middle, and a smaller one in front of it, on voxels
# of 1 x 2 x 4 mm whose first axis runs from right to left.

AFFINE = np.array([[-1.0, 0, 0, 60], [0, 2, 0, -80], [0, 0, 4, -21], [0, 0, 0, 1]])


def _blocks(path: Path, affine: np.ndarray = AFFINE) -> Path:
    data = np.zeros((120, 70, 15), dtype=np.float32)
    # x = 60 - i: from 40 down to 11 mm; y = 2 j - 80: from -40 to -2 mm; planes of 4 mm from
    # z = -3 to 33 mm.
    data[20:50, 20:40, 5:14] = 3
    data[20:50, 40:45, 5:14] = 8
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


def test_an_atlas_with_its_own_grid_lands_where_it_lies(tmp_path: Path) -> None:
    path = _blocks(tmp_path / "atlas.nii.gz")
    table = tmp_path / "elsewhere_label.txt"
    table.write_text("BACK-rh\n3 1 2 3 255\nFRONT-rh\n8 1 2 3 255\n", encoding="utf-8")
    atlas = load_atlas(str(path), table, "MNI152NLin6Asym")
    assert atlas.labels["name"].tolist() == ["BACK-rh", "FRONT-rh"]
    found = np.argwhere(atlas.dseg.data == 3) * 2.0 + MODEL_GRID.affine[:3, 3]
    assert found.min(axis=0).tolist() == [12, -40, -2]
    assert found.max(axis=0).tolist() == [40, -2, 32]
    assert atlas.sampling == (
        "nearest neighbour from 120 x 70 x 15 voxels of 1 x 2 x 4 mm; in MNI152NLin6Asym, taken "
        f"for {TEMPLATE_SPACE} as it is"
    )


def test_an_atlas_without_a_word_on_its_space_says_so(tmp_path: Path) -> None:
    atlas = load_atlas(str(_blocks(tmp_path / "atlas.nii.gz")))
    assert "since its name does not tell" in atlas.sampling
    assert atlas.labels["name"].tolist() == ["label 3", "label 8"]


def test_labels_that_the_sampling_loses_are_counted(tmp_path: Path) -> None:
    path = _blocks(tmp_path / "atlas.nii.gz")
    image = nib.load(path)
    data = image.get_fdata()
    # At x = 31 mm: between the centres of the model grid's voxels.
    data[29, 30, 6] = 9
    nib.Nifti1Image(data, image.affine).to_filename(path)
    assert "1 labels too small for it are lost" in load_atlas(str(path)).sampling


@pytest.mark.parametrize(
    "space", ["MNI305", "MNIColin27", "MNIInfant", "MNIPediatricAsym", "Talairach", "fsaverage"]
)
def test_another_space_is_refused_by_name(tmp_path: Path, space: str) -> None:
    path = _blocks(tmp_path / "atlas.nii.gz")
    with pytest.raises(UsageError, match=f"must lie in MNI space .* lies in {space}"):
        load_atlas(str(path), None, space)
    named = _blocks(tmp_path / f"tpl-{space}_dseg.nii.gz")
    with pytest.raises(UsageError, match=f"lies in {space}"):
        load_atlas(str(named))


def test_a_name_and_a_word_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = _blocks(tmp_path / "atlas_MNI152NLin2009cAsym_1mm.nii.gz")
    assert "in MNI152NLin2009cAsym, taken" in load_atlas(str(path)).sampling
    with pytest.raises(UsageError, match="its name says that it lies in MNI152NLin2009cAsym"):
        load_atlas(str(path), None, "MNI152NLin6Asym")


def test_an_atlas_beside_the_brain_is_refused_whatever_its_name(tmp_path: Path) -> None:
    shifted = AFFINE.copy()
    # 60 mm up: the block then reaches from 57 to 93 mm, and the brain's top lies near 80.
    shifted[2, 3] += 60
    path = _blocks(tmp_path / "space-MNI152NLin6Asym_dseg.nii.gz", shifted)
    with pytest.raises(UsageError, match="must lie in the template's brain; found"):
        load_atlas(str(path))


def test_a_bundled_atlas_takes_no_other_labels(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its own labels and space"):
        load_atlas("MUSEIXI", tmp_path / "labels.tsv")


def _fetcher(tmp_path: Path, **changes: Any) -> Any:
    """Make what nilearn's fetchers return of a block atlas; the variant becomes a region's name."""

    def fetch(variant: str = "plain", *, verbose: int) -> dict[str, Any]:
        lut = pd.DataFrame({"index": [0, 3, 8], "name": ["Background", f"{variant}_L", "Front"]})
        return {
            "maps": str(_blocks(tmp_path / "fetched.nii.gz")),
            "lut": lut,
            "template": "MNI152NLin6Asym",
            "atlas_type": "deterministic",
            **changes,
        }

    return fetch


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    import nilearn

    stand_in = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "nilearn.datasets", stand_in)
    monkeypatch.setattr(nilearn, "datasets", stand_in, raising=False)
    return stand_in


def test_nilearns_atlases_come_with_their_names_and_space(
    tmp_path: Path, datasets: SimpleNamespace
) -> None:
    datasets.fetch_atlas_blocks = _fetcher(tmp_path)
    atlas = load_atlas("nilearn:blocks:coarse")
    assert atlas.labels["name"].tolist() == ["coarse_L", "Front"]
    assert atlas.labels["hemisphere"].tolist() == ["L", "n/a"]
    assert "in MNI152NLin6Asym" in atlas.sampling
    assert load_atlas("nilearn:blocks").labels["name"][0] == "plain_L"


def test_nilearns_atlases_that_are_none_are_refused(
    tmp_path: Path, datasets: SimpleNamespace
) -> None:
    def no_network(*, verbose: int) -> None:
        raise ConnectionError("no route")

    datasets.fetch_atlas_offline = no_network
    datasets.fetch_atlas_surface = _fetcher(tmp_path, template="fsaverage")
    datasets.fetch_atlas_soft = _fetcher(tmp_path, atlas_type="probabilistic")
    for name, why in {
        "offline": "ConnectionError: no route",
        "surface": "lies in fsaverage",
        "soft": "found probabilities",
        "nothing": "has no fetch_atlas_nothing",
    }.items():
        with pytest.raises(UsageError, match=why):
            load_atlas(f"nilearn:{name}")


def test_a_single_fourth_axis_is_no_series(tmp_path: Path) -> None:
    path = _blocks(tmp_path / "atlas.nii.gz")
    flat = read_volume(path, TEMPLATE_SPACE).data
    nib.Nifti1Image(flat[..., None], AFFINE).to_filename(tmp_path / "four.nii.gz")
    four = load_atlas(str(tmp_path / "four.nii.gz")).dseg.data
    assert np.array_equal(four, load_atlas(str(path)).dseg.data)
    nib.Nifti1Image(np.stack([flat, flat], axis=-1), AFFINE).to_filename(tmp_path / "two.nii.gz")
    with pytest.raises(UsageError, match="three axes"):
        load_atlas(str(tmp_path / "two.nii.gz"))


def _label_image(path: Path, data: np.ndarray, code: int = 1) -> str:
    image = nib.Nifti1Image(data, AFFINE)
    image.set_sform(AFFINE, code)
    image.set_qform(AFFINE, code)
    image.to_filename(path)
    return str(path)


def test_labels_that_were_interpolated_are_refused(tmp_path: Path) -> None:
    """Between labels 3 and 8 of a blurred atlas lie 5 and 6, which are other regions."""
    flat = read_volume(_blocks(tmp_path / "atlas.nii.gz"), TEMPLATE_SPACE).data
    blurred = (flat + np.roll(flat, 1, axis=1)) / 2
    count = np.count_nonzero(blurred % 1)
    with pytest.raises(UsageError, match=f"found {count} voxels between two. Give labels"):
        load_atlas(_label_image(tmp_path / "blurred.nii.gz", blurred))
    # What a scaled integer is off by.
    close = _label_image(tmp_path / "close.nii.gz", flat * np.float32(1.0001))
    assert load_atlas(close).labels["index"].tolist() == [3, 8]


def test_colours_and_complex_numbers_are_no_labels(tmp_path: Path) -> None:
    colours = np.zeros((20, 20, 20), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for data in (colours, np.ones((20, 20, 20), np.complex64)):
        with pytest.raises(UsageError, match="labels must be real numbers"):
            load_atlas(_label_image(tmp_path / "other.nii.gz", data))


def test_an_atlas_whose_left_would_be_a_guess_is_refused(tmp_path: Path) -> None:
    flat = read_volume(_blocks(tmp_path / "atlas.nii.gz"), TEMPLATE_SPACE).data
    with pytest.raises(UsageError, match="leaves right and left to guess"):
        load_atlas(_label_image(tmp_path / "nowhere.nii.gz", flat, code=0))
