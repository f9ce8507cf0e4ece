"""Phantom cohorts on disk: complete, repeatable, grown and gone on with; label maps; figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.assets import atlas_root
from ermoe_ba.atlas import DEFAULT_ATLAS, load_atlas, registry
from ermoe_ba.cli.main import main
from ermoe_ba.cohort import read_participants
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.io import read_volume, write_volume
from ermoe_ba.model.config import TISSUES
from ermoe_ba.phantom import dataset
from ermoe_ba.phantom.anatomy import muse_regions
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.dataset import PhantomDataset
from ermoe_ba.phantom.label_maps import find_label_maps, read_label_map
from ermoe_ba.phantom.regions import REGIONS, SULCAL_CSF_INDEX, Kind
from ermoe_ba.report.phantom import (
    draw_agreement,
    draw_decades,
    draw_lifespan,
    draw_trajectories,
)
from ermoe_ba.space import MODEL_GRID, Array, SpatialGrid, Volume
from ermoe_ba.t1w import read_t1w

CONFIG = PhantomConfig(seed=3, only=("hippocampus_L",))


def _atlas_file() -> Path:
    return atlas_root() / str(registry()[DEFAULT_ATLAS]["file"])


def _contents(root: Path) -> dict[str, bytes]:
    """All files of a dataset, images unpacked: their archives bear the time they were written."""
    return {
        str(path.relative_to(root)): np.asarray(read_volume(path, "scan").data).tobytes()
        if path.name.endswith(".nii.gz")
        else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    PhantomDataset(out, CONFIG, _atlas_file()).make(3)
    return out


def test_each_subject_has_a_scan_a_label_map_and_a_row(cohort: Path) -> None:
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    assert table["participant_id"].tolist() == ["sub-000001", "sub-000002", "sub-000003"]
    np.testing.assert_allclose(table["age"] + table["planted_gap"], table["biological_age"])
    for name in table["participant_id"]:
        scan = read_t1w(cohort / name / "anat" / f"{name}_T1w.nii.gz")
        truth = cohort / "derivatives" / "phantom" / name / "anat"
        dseg = read_volume(truth / f"{name}_dseg.nii.gz", "scan")
        assert scan.grid == dseg.grid
    # What the package itself reads of a study.
    assert len(read_participants(cohort / "participants.tsv").labelled.table) == 3


def test_every_column_is_described(cohort: Path) -> None:
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    described = json.loads((cohort / "participants.json").read_text(encoding="utf-8"))
    assert set(table.columns) == {"participant_id", *described}
    # Sum of the planted regions: what is left of the cavity is fluid.
    planted = table[[f"planted_{region.name}_ml" for region in REGIONS]].sum(axis=1)
    assert (planted < table["planted_intracranial_ml"]).all()


def test_the_planted_effect_is_marked(cohort: Path) -> None:
    truth = cohort / "derivatives" / "phantom"
    key = pd.read_csv(truth / "dseg.tsv", sep="\t", keep_default_na=False)
    assert key.loc[key["planted"] == 1, "name"].tolist() == ["hippocampus_L"]
    # A stem can learn from the phantom's label maps: each region is a tissue that it knows.
    assert set(key["tissue"]) < set(TISSUES)
    assert key.set_index("name").loc["hippocampus_L", "tissue"] == "medial_temporal"
    space = MODEL_GRID.space
    mask = read_volume(truth / f"space-{space}_desc-planted_mask.nii.gz", space)
    x = np.nonzero(mask.data)[0] * mask.grid.affine[0, 0] + mask.grid.affine[0, 3]
    # The left hippocampus lies left of the midline and measures some millilitres.
    assert x.max() < 0
    assert 2 < mask.data.sum() * mask.grid.voxel_volume_ml < 8


def test_a_cohort_grows_and_remakes_only_what_is_missing(cohort: Path, tmp_path: Path) -> None:
    small = PhantomDataset(tmp_path / "grown", CONFIG, _atlas_file())
    small.make(1)
    table = PhantomDataset(tmp_path / "grown", CONFIG, _atlas_file()).make(3)
    assert len(table) == 3
    assert _contents(tmp_path / "grown") == _contents(cohort)
    first = tmp_path / "grown" / "sub-000001" / "anat" / "sub-000001_T1w.nii.gz"
    second = tmp_path / "grown" / "derivatives" / "phantom" / "sub-000002" / "anat"
    kept = first.stat().st_mtime_ns
    (second / "sub-000002_desc-truth_dseg.json").unlink()
    # An interrupted subject: its truth was never written, its label map is rubbish.
    (second / "sub-000002_dseg.nii.gz").write_bytes(b"rubbish")
    PhantomDataset(tmp_path / "grown", CONFIG, _atlas_file()).make(2)
    assert first.stat().st_mtime_ns == kept
    assert _contents(tmp_path / "grown") == _contents(cohort)


@pytest.mark.slow
def test_processes_do_not_change_what_comes_out(cohort: Path, tmp_path: Path) -> None:
    PhantomDataset(tmp_path / "shared", CONFIG, _atlas_file()).make(3, jobs=2)
    assert _contents(tmp_path / "shared") == _contents(cohort)


def test_another_cohort_s_folder_is_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed 3 there, 4 here"):
        PhantomDataset(cohort, replace(CONFIG, seed=4), _atlas_file())
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="must be empty"):
        PhantomDataset(tmp_path, CONFIG, _atlas_file())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("count", "jobs"), [(0, 1), (1, 0)])
def test_counts_below_one_are_refused(cohort: Path, count: int, jobs: int) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        PhantomDataset(cohort, CONFIG, _atlas_file()).make(count, jobs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ages", "young"], "18:90"),
        (["--ages", "10:90"], "18 to 95"),
        (["--only", "liver"], "liver"),
        (["--variation", "0"], "above 0"),
        (["--head"], "--anatomies"),
        (["--anatomies", "nowhere"], "nowhere"),
    ],
)
def test_wrong_calls_say_what_to_do_and_leave_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["phantom", "--out", str(out), "--n", "1", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_the_command_makes_a_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    call = ["phantom", "--out", str(out), "--n", "1", "--ages", "70:71", "--spare", "insula"]
    assert main(call) == 0
    assert "1 subjects of 7" in capsys.readouterr().out
    settings = json.loads((out / "phantom.json").read_text(encoding="utf-8"))["config"]
    assert (settings["youngest"], settings["spare"]) == (70.0, ["insula"])


# Another lattice than the model grid: first axis down, second to the left, third to the front.
_TURN = np.array([[0, -2.0, 0, 90], [0, 0, 2.0, -126], [-2.0, 0, 0, 108], [0, 0, 0, 1.0]])


def _turned(labels: Array, stretch: float = 1.0) -> Volume:
    """Lay a label image on the model grid over another lattice, the person's brain larger."""
    turned = np.flip(np.transpose(labels, (2, 0, 1)), axis=(0, 1))
    affine = _TURN.copy()
    affine[:3] *= stretch
    return Volume(
        np.ascontiguousarray(turned).astype(np.int16), SpatialGrid(turned.shape, affine, "scan")
    )


@pytest.fixture(scope="module")
def muse_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "sub-a_dseg.nii.gz"
    write_volume(path, _turned(load_atlas().dseg.data, stretch=0.9))
    return path


def test_a_label_map_is_laid_over_the_template_whatever_its_lattice(muse_map: Path) -> None:
    atlas = load_atlas().dseg
    anatomy = read_label_map(muse_map, atlas)
    # The atlas itself, turned and made smaller: it must come back where it was.
    inside = atlas.data > 0
    assert anatomy.cavity_ml == pytest.approx(inside.sum() * 0.008, rel=0.03)
    regions = muse_regions(atlas.data)
    start = np.rint((anatomy.grid.affine[:3, 3] - MODEL_GRID.affine[:3, 3]) / 2).astype(int)
    box = tuple(slice(s, s + n) for s, n in zip(start, anatomy.grid.shape, strict=True))
    solid = np.isin(regions[box], np.unique(anatomy.solid[anatomy.solid > 0]))
    agree = anatomy.solid[solid] == regions[box][solid]
    assert agree.mean() > 0.95
    for index in (1, 2):
        assert (anatomy.solid == index).sum() == pytest.approx((regions == index).sum(), rel=0.1)


def _as_aseg(labels: Array) -> Array:
    """Say in FreeSurfer's labels what MUSE's say; lobes are lost."""
    regions, aseg = muse_regions(labels), np.zeros(labels.shape, int)
    for region in REGIONS:
        left = region.hemisphere != "R"
        if region.kind is Kind.CORTEX:
            label = 3 if left else 42
        elif region.kind is Kind.WHITE:
            label = 2 if left else 41
        else:
            label = region.aseg[-1] if region.aseg else 8
        aseg[regions == region.index] = label
    aseg[regions == SULCAL_CSF_INDEX] = 24
    return aseg


def test_freesurfer_labels_get_their_lobes_from_the_atlas(tmp_path: Path) -> None:
    atlas = load_atlas().dseg
    labels = _as_aseg(atlas.data)
    shell = (labels == 0) & (np.abs(np.indices(labels.shape)[2] - 50) < 4)
    labels[shell] = 507
    path = tmp_path / "head.nii.gz"
    write_volume(path, _turned(labels))
    anatomy = read_label_map(path, atlas, head=True)
    labels = anatomy.labels()
    assert set(np.unique(labels)) == set(range(SULCAL_CSF_INDEX + 1))
    frontal = next(r.index for r in REGIONS if r.name == "frontal_cortex_L")
    regions = muse_regions(atlas.data)
    share = (regions == frontal).sum() / (atlas.data > 0).sum()
    assert (labels == frontal).sum() / anatomy.cavity.sum() == pytest.approx(share, rel=0.15)
    assert anatomy.head is not None
    # 507 less 500, and only outside the cavity.
    assert set(np.unique(anatomy.head)) == {0, 7}
    assert not (anatomy.head[anatomy.cavity] > 0).any()


def test_label_maps_that_cannot_serve_are_refused(tmp_path: Path, muse_map: Path) -> None:
    atlas = load_atlas().dseg
    with pytest.raises(ScanError, match="outside the brain"):
        read_label_map(muse_map, atlas, head=True)
    path = tmp_path / "strange.nii.gz"
    write_volume(path, _turned(np.where(atlas.data > 0, 1, 0)))
    with pytest.raises(ScanError, match="neither scheme"):
        read_label_map(path, atlas)
    few = np.where(np.isin(atlas.data, (81, 82, 142, 143, 35)), atlas.data, 0)
    write_volume(path, _turned(few))
    with pytest.raises(ScanError, match="at least 8 deep regions"):
        read_label_map(path, atlas)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="found none"):
        find_label_maps(tmp_path / "empty")


def test_subjects_can_be_shaped_from_label_maps(muse_map: Path, tmp_path: Path) -> None:
    table = PhantomDataset(tmp_path / "out", CONFIG, _atlas_file(), muse_map).make(1)
    assert table["anatomy"].tolist() == ["sub-a_dseg"]
    ratio = table["realised_frontal_white_L_ml"] / table["planted_frontal_white_L_ml"]
    assert ratio[0] == pytest.approx(1.0, abs=0.03)


def test_subjects_of_one_anatomy_are_made_in_a_row(
    muse_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    for name in "abc":
        (maps / f"{name}.nii.gz").symlink_to(muse_map)
    cohort = PhantomDataset(tmp_path / "out", CONFIG, _atlas_file(), maps)
    made: list[int] = []
    monkeypatch.setattr(dataset, "make_subject", lambda _, index: made.append(index))
    cohort.make(20)
    anatomies = [dataset.anatomy_of(cohort.source, index) for index in made]
    assert sorted(made) == list(range(1, 21))
    assert anatomies == sorted(anatomies)
    assert set(anatomies) == {0, 1, 2}


def _width(png: bytes) -> int:
    """Read a picture's width from the header of the PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(png[16:20], "big")


def test_figures_are_drawn_of_a_cohort(cohort: Path) -> None:
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    name = table["participant_id"][0]
    scan = read_t1w(cohort / name / "anat" / f"{name}_T1w.nii.gz")
    one, two = draw_lifespan([(20.0, scan)]), draw_lifespan([(20.0, scan), (80.0, scan)])
    assert _width(two) == pytest.approx(2 * _width(one), abs=2)
    drawings: list[Callable[[pd.DataFrame], bytes]] = [
        draw_agreement,
        draw_trajectories,
        lambda t: draw_decades(t, t),
    ]
    for draw in drawings:
        picture = draw(table)
        assert _width(picture) > 500
        other = table.assign(realised_hippocampus_L_ml=table["realised_hippocampus_L_ml"] / 2)
        assert draw(other) != picture
        assert draw(table) == picture
