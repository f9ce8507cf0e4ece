"""The command line: exit codes, messages, and a batch in which one bad scan costs no other."""

import errno
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from coarse_model import CARD, COARSE

from ermoe_ba import BrainAgeModel
from ermoe_ba.assets import atlas_root, template
from ermoe_ba.checkpoint import Ensemble, token_grid
from ermoe_ba.cli.main import main
from ermoe_ba.cli.predict import write_rows
from ermoe_ba.errors import RefusedScanError, ScanError, UsageError
from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.io import write_volume
from ermoe_ba.kept_results import rows_without_result
from ermoe_ba.likeness import Likeness
from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model_card import WEIGHTS, save_card
from ermoe_ba.parquet import read_text_table
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume
from ermoe_ba.t1w import read_t1w
from ermoe_ba.tables import PREDICTION_COLUMNS, REGION_COLUMNS, predictions_table, write_table
from ermoe_ba.training_scans import (
    TrainingScans,
    keep_training_scans,
    read_training_scans,
)
from ermoe_ba.widening import Widening
from ermoe_ba.workers import Outcome, Predictor, PredictSettings

pytestmark = pytest.mark.usefixtures("one_torch_thread")

WriteHead = Callable[..., Path]

OUTPUTS = (
    "desc-preproc_T1w.nii.gz",
    "desc-brain_mask.nii.gz",
    "desc-experts_probseg.nii.gz",
    "desc-experts_dseg.nii.gz",
    "desc-experts_dseg.tsv",
    "desc-contribution_map.nii.gz",
    "res-token_desc-members_probseg.nii.gz",
    "res-token_desc-members_map.nii.gz",
    "regions.tsv",
    "report.html",
    "prediction.json",
)
MAPS = OUTPUTS[2:10]


@pytest.fixture(scope="module")
def atlases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, and one atlas: left and right half of the brain."""
    root = tmp_path_factory.mktemp("atlases")
    shutil.copytree(atlas_root() / f"tpl-{TEMPLATE_SPACE}", root / f"tpl-{TEMPLATE_SPACE}")
    brain = template("desc-brain_mask")
    halves = np.where(brain.data > 0, 1, 0).astype(np.int16)
    halves[46:] *= 2
    write_volume(root / "halves.nii.gz", brain.same_grid(halves))
    (root / "halves.tsv").write_text(
        "index\tname\themisphere\n1\tleft half\tL\n2\tright half\tR\n", encoding="utf-8"
    )
    (root / "registry.toml").write_text(
        '[atlas.MUSEIXI]\nfile = "halves.nii.gz"\nlabels = "halves.tsv"\n'
        'licence = "CC0"\ndescription = "Two halves"\n',
        encoding="utf-8",
    )
    return root


@pytest.fixture(autouse=True)
def _atlases_in_place(atlases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(atlases))


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    """Two members with random weights on the real model grid, coarse and narrow to be quick."""
    tokens = token_grid(COARSE)
    members = []
    for seed in range(2):
        torch.manual_seed(seed)
        member = ErmoeBrainAge(COARSE, tokens)
        with torch.no_grad():
            for parameter in member.experts.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
            member.location_tfc.fill_(0.1)
            member.spread_tfc.fill_(0.1)
            member.baseline.fill_(47.0 + seed)
            member.scale.fill_(16.0)
        members.append(member.eval())
    return Ensemble(CARD, members, tokens, "random-000000000000")


class FakePreprocessor:
    """Reads and checks the scan as the real one does; its result is the template, a bit changed.

    The change depends on the scan's voxels, so that different scans have different ages.
    """

    def __init__(self, config: PreprocessConfig, device: str, *, force: bool = False) -> None:
        self.config = config

    def __call__(self, path: Path, announce: Callable[[str], None] | None = None) -> ScanState:
        if path.name.startswith("bug"):
            raise ZeroDivisionError("a library's bug\nover two lines")
        scan = read_t1w(path)
        factor = 1.0 + 0.2 * float(scan.data.max()) / 200.0
        brain = template("desc-brain_mask")
        head = template("desc-brain_T1w").data.astype(np.float32)
        image = np.where(brain.data > 0, head / head.max() * factor, 0).astype(np.float32)
        if path.name.startswith("inverted"):
            image = np.where(brain.data > 0, 1.5 - image, 0).astype(np.float32)
        return ScanState(
            path=path,
            t1w=Volume(image, MODEL_GRID),
            brain_mask=Volume((brain.data > 0).astype(np.uint8), MODEL_GRID),
            scan_to_template=np.eye(4),
            figures={"brain_volume_ml": 1500.0},
        )


@pytest.fixture
def _stand_ins(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: ensemble)
    monkeypatch.setattr("ermoe_ba.workers.predictor.Preprocessor", FakePreprocessor)


@dataclass(frozen=True)
class Run:
    """What a call left behind."""

    code: int
    out: Path
    stdout: str
    stderr: str

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(
            self.out / "predictions.tsv", sep="\t", keep_default_na=False, na_values=["n/a"]
        )

    def files(self) -> set[str]:
        return {path.name for path in self.out.iterdir()}


@pytest.fixture
def predict(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Call ``ermoe-ba predict``; every run must leave nothing half-written and no traceback."""

    def call(*arguments: str | Path, out: Path = tmp_path / "out") -> Run:
        capfd.readouterr()
        code = main(["predict", *map(str, arguments), "--out", str(out)])
        stdout, stderr = capfd.readouterr()
        if "--debug" not in arguments:
            assert "Traceback" not in stderr
        assert not list(out.glob(".partial-*"))
        return Run(code, out, stdout, stderr)

    return call


def test_help_is_given_without_loading_torch() -> None:
    call = "; ".join(
        [
            "import sys",
            "from ermoe_ba.cli.main import main",
            "assert main(['--help']) == 0",
            "assert main(['predict', '--help']) == 0",
            "heavy = {'torch', 'monai', 'ants', 'matplotlib', 'pandas'} & set(sys.modules)",
            "assert not heavy, heavy",
        ]
    )
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("predict", "preprocess", "--jobs", "--resume", "info", "--participants"):
        assert word in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["predict"],
        ["predict", "scan.nii"],
        ["predict", "--out", "x"],
        ["predict", "scan.nii", "--out", "x", "--no-such-option"],
        ["predict", "scan.nii", "--out", "x", "--device", "abacus"],
        ["predict", "scan.nii", "--out", "x", "--jobs", "0"],
        ["predict", "scan.nii", "--out", "x", "--jobs", "many"],
        ["preprocess", "scan.nii"],
        ["cross-validate", "recipe.toml", "--out", "x"],
        ["cross-validate", "r.toml", "--participants", "p", "--out", "x", "--fold", "one"],
        ["train", "recipe.toml", "--participants", "p", "--out", "x"],
        ["fine-tune", "--out", "x"],
    ],
)
def test_a_call_that_cannot_be_read_gives_two_and_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    stderr = capsys.readouterr().err
    assert "usage: ermoe-ba" in stderr
    assert "Traceback" not in stderr


def test_an_interrupt_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("ermoe_ba.cli.info.run_info", interrupt)
    assert main(["info"]) == 130
    told = capsys.readouterr()
    assert told.err.startswith("ermoe-ba: interrupted")
    assert told.err.count("\n") == 1
    with pytest.raises(KeyboardInterrupt):
        main(["info", "--debug"])


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from ermoe_ba import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ermoe-ba {__version__}\n"


def test_info_is_json_with_versions_atlases_and_grid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["atlases"] == {"MUSEIXI": {"description": "Two halves", "licence": "CC0"}}
    assert content["libraries"]["torch"] == version("torch")
    assert content["grid"]["shape"] == [91, 109, 91]


def test_info_shows_the_card_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", "ixi-hh"]) == 0
    shown = capsys.readouterr().out
    assert shown == (WEIGHTS / "ixi-hh" / "MODEL_CARD.md").read_text(encoding="utf-8")
    (tmp_path / "model.json").write_text("{}", encoding="utf-8")
    assert main(["info", "--model", str(tmp_path)]) == 2
    assert "no card" in capsys.readouterr().err
    assert main(["info", "--model", "absent"]) == 2
    assert "There is no model 'absent'" in capsys.readouterr().err


def test_info_in_words_tells_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    stdout = capsys.readouterr().out
    for line in ("atlases:", "  MUSEIXI:", "    licence: CC0", "  shape: 91, 109, 91"):
        assert line in stdout.splitlines()


def test_one_scan_loads_nothing_that_other_inputs_need() -> None:
    call = "; ".join(
        [
            "import sys",
            "import ermoe_ba.cli.predict",
            "heavy = {'bids', 'sqlalchemy', 'dicom2nifti', 'ants'}",
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _usage_cases(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Arguments that are wrong in one way each, and a word that the message must hold."""
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").touch()
    (folder / "twice.tsv").write_text("participant_id\tage\nsub-01\t30\n01\t31\n", encoding="utf-8")
    (folder / "nameless.tsv").write_text("id\tage\n01\t30\n", encoding="utf-8")
    scan = str(folder / "scan.nii")
    return {
        "unknown model": ([scan, "--model", "no-such-model"], "no-such-model"),
        "unknown atlas": ([scan, "--atlas", "no-such-atlas"], "no-such-atlas"),
        "maps and none": ([scan, "--no-maps", "--scan-space", "winners"], "--scan-space"),
        "atlas of another space": (
            [scan, "--atlas", str(folder / "tpl-fsaverage_dseg.nii")],
            "fsaverage",
        ),
        "participant twice": (
            [scan, "--participants", str(folder / "twice.tsv")],
            "'01' stands more than once",
        ),
        "no participant_id": (
            [scan, "--participants", str(folder / "nameless.tsv")],
            "participant_id",
        ),
        "no participants table": ([scan, "--participants", str(folder / "gone.tsv")], "gone.tsv"),
        "folder without scans": ([str(folder / "empty")], "found none"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "unknown model",
        "unknown atlas",
        "maps and none",
        "atlas of another space",
        "participant twice",
        "no participant_id",
        "no participants table",
        "folder without scans",
    ],
)
def test_a_wrong_call_gives_two_and_one_line_and_touches_nothing(
    case: str, tmp_path: Path, predict: Callable[..., Run]
) -> None:
    (tmp_path / "tpl-fsaverage_dseg.nii").touch()
    arguments, says = _usage_cases(tmp_path)[case]
    run = predict(*arguments)
    assert run.code == 2
    assert run.stderr.startswith("ermoe-ba: ")
    assert says in run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""
    assert not run.out.exists()


def test_debug_shows_where_a_wrong_call_went_wrong(tmp_path: Path) -> None:

    with pytest.raises(UsageError):
        main(["predict", "x.nii", "--out", str(tmp_path), "--atlas", "no-such", "--debug"])


def test_results_are_not_overwritten_unasked(tmp_path: Path, predict: Callable[..., Run]) -> None:
    (tmp_path / "out").mkdir()
    table = tmp_path / "out" / "predictions.tsv"
    table.write_text("precious", encoding="utf-8")
    run = predict(tmp_path / "scan.nii")
    assert run.code == 2
    assert "--overwrite" in run.stderr
    assert table.read_text(encoding="utf-8") == "precious"


@pytest.mark.usefixtures("_stand_ins")
def test_of_runs_that_begin_at_once_one_alone_takes_the_folder(
    tmp_path: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While this run loads its model, another one takes the folder that both found empty."""
    table, start = tmp_path / "out" / "predictions.tsv", PredictSettings.start

    def beside_another(settings: PredictSettings) -> Predictor:
        table.parent.mkdir()
        table.write_text("the other run's", encoding="utf-8")
        return start(settings)

    monkeypatch.setattr(PredictSettings, "start", beside_another)
    run = predict(write_head(), "--no-maps")
    assert run.code == 2
    assert "already holds predictions.tsv" in run.stderr
    assert run.files() == {"predictions.tsv"}
    assert table.read_text(encoding="utf-8") == "the other run's"


@pytest.mark.usefixtures("_stand_ins")
def test_a_file_system_without_links_takes_results_as_well(
    write_head: WriteHead, predict: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    run = predict(write_head(), "--no-maps")
    assert run.code == 0
    assert len(run.table) == 1


@pytest.mark.parametrize("name", ["head_desc-preproc_T1w.nii.gz", "qc.html", "index.html"])
@pytest.mark.usefixtures("_stand_ins")
def test_no_file_of_somebody_else_is_replaced_unasked(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run], name: str
) -> None:
    """Results go into a folder of fMRIPrep's, or into one with a page of its own."""
    scan = write_head()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("precious", encoding="utf-8")
    run = predict(scan, "--no-maps")
    assert run.code == 2
    assert f"must hold no file that would be replaced; found 1 ({name})" in run.stderr
    assert run.files() == {name}
    assert (run.out / name).read_text(encoding="utf-8") == "precious"
    run = predict(scan, "--no-maps", "--overwrite")
    assert run.code == 0
    assert "head_prediction.json" in run.files()


@pytest.mark.parametrize("option", [[], ["--overwrite"], ["--resume"]])
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.usefixtures("_stand_ins")
def test_no_input_is_lost_to_a_result_of_another(
    write_head: WriteHead, predict: Callable[..., Run], option: list[str], linked: bool
) -> None:
    """What is written of ``head`` would stand where the second input lies."""
    scan, other = write_head(), write_head("head_desc-preproc_T1w.nii.gz")
    before = other.read_bytes()
    given = other
    if linked:
        given = other.parent / "link.nii.gz"
        given.symlink_to(other)
    run = predict(scan, given, *option, out=scan.parent)
    assert run.code == 2
    assert f"no input may lie where a result will; found {given}" in run.stderr
    assert other.read_bytes() == before
    assert not (scan.parent / "predictions.tsv").exists()


@pytest.mark.usefixtures("_stand_ins")
def test_results_may_lie_beside_their_scans(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head()
    before = scan.read_bytes()
    for option in ([], ["--resume"], ["--overwrite"]):
        assert predict(scan.parent, "--no-maps", *option, out=scan.parent).code == 0
    assert scan.read_bytes() == before


@pytest.mark.usefixtures("_stand_ins")
def test_a_good_scan_is_fully_written_among_bad_ones(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run], ensemble: Ensemble
) -> None:
    good = write_head("sub-01_ses-2_T1w.nii.gz")
    text = tmp_path / "sub-02_T1w.nii.gz"
    text.write_text("no image", encoding="utf-8")
    cut = write_head("sub-03_T1w.nii")
    cut.write_bytes(cut.read_bytes()[:2000])
    bug = write_head("bug.nii.gz")
    participants = tmp_path / "participants.tsv"
    participants.write_text(
        "participant_id\tage\nsub-01\t40\n02\t41\n03\t42\nbug\t43\nsub-05\tn/a\n",
        encoding="utf-8",
    )
    missing = tmp_path / "sub-05_T1w.nii"
    run = predict(text, cut, missing, bug, good, "--participants", participants)
    assert run.code == 1
    table = run.table
    assert table.columns.tolist() == list(PREDICTION_COLUMNS)
    assert table["status"].tolist() == ["failed"] * 4 + ["ok"]
    assert table["input"].tolist() == [str(p) for p in (text, cut, missing, bug, good)]
    for path, found, remedy, message in [
        (text, "found BadGzipFile", "Export or copy the scan again.", table["message"][0]),
        (cut, "found", "The file is truncated or damaged; copy it again.", table["message"][1]),
        (missing, "found no file of that name", "Check the path.", table["message"][2]),
        (bug, "unexpected ZeroDivisionError", "Run with --debug.", table["message"][3]),
    ]:
        assert message.startswith(f"{path}: ")
        assert found in message
        assert message.endswith(remedy)
        assert "\n" not in message
        assert f"failed  {message}\n" in run.stderr
    failed = table.iloc[:4]
    assert failed[["predicted_age", "predicted_age_lower", "brain_age_gap"]].isna().all(axis=None)
    # What the table says of a scan that failed stays known: n/a, as it says of sub-05, as well.
    assert failed["chronological_age"].fillna(-1).tolist() == [41, 42, -1, 43]
    assert table["message"].isna().tolist() == [False] * 4 + [True]
    assert "4 of 5 scans failed" in run.stdout
    name = "sub-01_ses-2"
    assert run.files() == {
        "predictions.tsv",
        "qc.html",
        *(f"{name}_{suffix}" for suffix in OUTPUTS),
    }
    _check_outputs(run, name, ensemble, table.iloc[4])


def _check_outputs(run: Run, name: str, ensemble: Ensemble, row: pd.Series) -> None:
    def image(suffix: str) -> np.ndarray:
        loaded = nib.load(run.out / f"{name}_{suffix}")
        np.testing.assert_allclose(loaded.affine, MODEL_GRID.affine)
        return np.asanyarray(loaded.dataobj)

    content = json.loads((run.out / f"{name}_prediction.json").read_text(encoding="utf-8"))
    for column, value in row.items():
        if pd.isna(value):
            assert content.get(column) is None, column
        else:
            assert content[column] == pytest.approx(value) if column in AGES else value, column
    assert row["predicted_age_upper"] - row["predicted_age_lower"] == pytest.approx(24.0)
    assert row["brain_age_gap"] == pytest.approx(row["predicted_age"] - 40.0)
    assert np.mean(content["member_ages"]) == pytest.approx(row["predicted_age"], abs=1e-3)

    brain = image("desc-brain_mask.nii.gz") > 0
    np.testing.assert_allclose(image("desc-experts_probseg.nii.gz").sum(axis=-1), brain, atol=1e-5)
    assert image("desc-preproc_T1w.nii.gz")[brain].mean() > 0.1
    total = image("desc-contribution_map.nii.gz").sum(dtype=np.float64)
    assert content["baseline_years"] == 47.5
    assert content["baseline_years"] + total == pytest.approx(row["predicted_age"], abs=1e-3)
    assert abs(total) > 0.01

    winners, weights = image("desc-experts_dseg.nii.gz"), image("desc-experts_probseg.nii.gz")
    np.testing.assert_array_equal(winners, np.where(brain, weights.argmax(axis=-1) + 1, 0))
    labels = pd.read_csv(run.out / f"{name}_desc-experts_dseg.tsv", sep="\t")
    assert labels.to_numpy().tolist() == [
        [1, "grey_matter", "regional"],
        [2, "free_1", "free"],
        [3, "free_2", "free"],
    ]
    _check_members(run, name, ensemble, content)

    names = ensemble.card.model.expert_names
    assert tuple(content["expert_years"]) == names
    assert sum(content["expert_years"].values()) == pytest.approx(total, abs=1e-3)
    assert sum(content["expert_load"].values()) == pytest.approx(1.0)
    regions = pd.read_csv(run.out / f"{name}_regions.tsv", sep="\t", keep_default_na=False)
    assert regions.columns.tolist() == list(REGION_COLUMNS)
    by_expert = regions.groupby("expert", sort=False)["contribution_years"].sum()
    assert tuple(by_expert.index) == names
    for expert, years in by_expert.items():
        assert years == pytest.approx(content["expert_years"][expert], abs=1e-3)
    html = (run.out / f"{name}_report.html").read_text(encoding="utf-8")
    assert f"{row['predicted_age']:.1f}" in html


def _check_members(run: Run, name: str, ensemble: Ensemble, content: dict[str, Any]) -> None:
    """What the two members said, token by token: patches of 32 mm."""
    by_token = {}
    for key, suffix in {"weights": "probseg", "years": "map"}.items():
        file = nib.load(run.out / f"{name}_res-token_desc-members_{suffix}.nii.gz")
        assert file.shape == (*ensemble.tokens.lattice_shape, 2 * 3)
        np.testing.assert_allclose(file.header.get_zooms()[:3], 32.0)
        i, j, k = ensemble.tokens.positions.T
        by_token[key] = np.asanyarray(file.dataobj)[i, j, k].reshape(-1, 2, 3)
        assert np.count_nonzero(file.dataobj) == np.count_nonzero(by_token[key])
    np.testing.assert_allclose(by_token["weights"].sum(axis=2), 1.0, atol=1e-6)
    years_m = by_token["years"].sum(axis=(0, 2), dtype=np.float64)
    # The members' baselines are 47 and 48 years.
    np.testing.assert_allclose(np.array([47.0, 48.0]) + years_m, content["member_ages"], atol=1e-4)
    assert content["predicted_age"] == pytest.approx(47.5 + years_m.mean(), abs=1e-4)
    # Two seeds, so two stems.
    assert content["member_stems"] == [0, 1]


AGES = {
    "predicted_age",
    "predicted_age_lower",
    "predicted_age_upper",
    "chronological_age",
    "brain_age_gap",
    "seconds",
}


@pytest.mark.usefixtures("_stand_ins")
def test_equal_file_names_do_not_overwrite_one_another(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    """Two heads of different brightness, so of different ages."""
    for folder, factor in (("a", 1), ("b", 3)):
        (tmp_path / folder).mkdir()
        head = nib.load(write_head()).get_fdata()
        write_head(f"{folder}/head.nii.gz", data=head * factor)
    run = predict(tmp_path / "a", tmp_path / "b", "--no-maps")
    assert run.code == 0
    ages = run.table["predicted_age"].tolist()
    assert ages[0] != ages[1]
    for name, age in zip(("a_head", "b_head"), ages, strict=True):
        content = json.loads((run.out / f"{name}_prediction.json").read_text(encoding="utf-8"))
        assert content["predicted_age"] == pytest.approx(age)
        assert content["input"] == "head.nii.gz"
    # The table is the user's own: it names the files as they were given.
    assert run.table["input"].tolist() == [str(tmp_path / n / "head.nii.gz") for n in "ab"]


@pytest.mark.usefixtures("_stand_ins")
def test_without_maps_none_are_written(write_head: WriteHead, predict: Callable[..., Run]) -> None:
    run = predict(write_head(), "--no-maps")
    assert run.code == 0
    expected = {f"head_{suffix}" for suffix in OUTPUTS if suffix not in MAPS}
    assert run.files() == {"predictions.tsv", "qc.html", *expected}
    content = json.loads((run.out / "head_prediction.json").read_text(encoding="utf-8"))
    assert content["provenance"]["atlas"] == "none"
    # One scan alone: its files are listed.
    for name in expected:
        assert str(run.out / name) in run.stdout


@pytest.mark.usefixtures("_stand_ins")
def test_maps_on_the_scans_grid_are_written_kept_and_removed_like_the_others(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    wanted = ("--scan-space", "contributions", "--scan-space", "winners", "--no-report")
    scan = write_head(shape=(40, 21, 25), affine=np.diag([-2.5, 5.5, 4.5, 1.0]) + _corner(45))
    run = predict(scan, *wanted)
    there = {f"head_space-T1w_{suffix}" for suffix in (OUTPUTS[3], OUTPUTS[5])}
    assert {name for name in run.files() if "space-T1w" in name} == there
    content = json.loads((run.out / "head_prediction.json").read_text(encoding="utf-8"))
    years = nib.load(run.out / f"head_space-T1w_{OUTPUTS[5]}")
    assert years.shape == (40, 21, 25)
    np.testing.assert_allclose(years.affine, nib.load(scan).affine)
    total = years.get_fdata().sum()
    assert content["baseline_years"] + total == pytest.approx(content["predicted_age"], abs=1e-4)
    assert "had been finished before" in predict(scan, *wanted, "--resume").stdout
    # Asked for otherwise, they are made anew, and what is no longer wanted goes.
    again = predict(scan, "--no-report", "--resume")
    assert "had been finished before" not in again.stdout
    assert not {name for name in again.files() if "space-T1w" in name}


def test_from_python_the_age_is_that_of_the_command_line(
    ensemble: Ensemble,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last digit, with interval, flags and gap; volumes are those on disk."""
    scan = write_head("sub-1_T1w.nii.gz")
    voxels = pd.DataFrame({"participant_id": ["z"], "voxel_hash": [voxel_hash(read_t1w(scan))]})
    told = replace(ensemble, training_scans=TrainingScans.of(voxels))
    for module in ("brain_age", "workers.predictor"):
        monkeypatch.setattr(f"ermoe_ba.{module}.load_ensemble", lambda *_: told)
    monkeypatch.setattr("ermoe_ba.brain_age.Preprocessor", FakePreprocessor)
    people = scan.with_name("participants.tsv")
    people.write_text("participant_id\tage\nsub-1\t80.5\n", encoding="utf-8")
    run = predict(scan, "--no-report", "--participants", people)
    row = json.loads((run.out / "sub-1_prediction.json").read_text(encoding="utf-8"))
    model = BrainAgeModel.load()
    found = model.predict(str(scan), chronological_age=80.5)
    assert found.predicted_age == row["predicted_age"]
    assert list(found.interval) == [row["predicted_age_lower"], row["predicted_age_upper"]]
    assert found.interval_widening is row["interval_widening"] is None
    assert found.brain_age_gap == row["brain_age_gap"] == found.predicted_age - 80.5
    assert ";".join(found.qc_flags) == row["qc_flags"]
    assert "age_outside_training" in found.qc_flags
    assert found.seen_in_training == row["seen_in_training"] == "yes"
    assert found.figures == row["quality"]
    assert found.maps is not None
    for volume, name in (
        (found.maps.total, "contribution_map"),
        (found.maps.experts, "experts_probseg"),
    ):
        assert volume.grid == MODEL_GRID
        written = nib.load(run.out / f"sub-1_desc-{name}.nii.gz").get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(volume.data, written)
    years = sum(float(v.data.sum(dtype=float)) for v in found.maps.contributions.values())
    assert years + found.prediction.baseline_years == pytest.approx(found.predicted_age, abs=1e-3)
    bare = model.predict(scan, maps=False)
    assert bare.maps is None
    assert bare.brain_age_gap is None
    assert bare.predicted_age == found.predicted_age
    with pytest.raises(RefusedScanError, match="white matter must be brighter"):
        model.predict(write_head("inverted_T1w.nii.gz"))
    with pytest.raises(ScanError, match="none"):
        model.predict("none.nii.gz")


def test_the_package_offers_what_it_names_and_loads_torch_only_then() -> None:
    call = "; ".join(
        [
            "import sys, ermoe_ba",
            "assert 'torch' not in sys.modules",
            "assert not hasattr(ermoe_ba, 'Absent')",
            "assert 'torch' not in sys.modules",
            "assert all(hasattr(ermoe_ba, name) for name in ermoe_ba.__all__)",
            "from ermoe_ba import BrainAgeModel",
            "assert BrainAgeModel.__module__ == 'ermoe_ba.brain_age'",
            "assert 'torch' in sys.modules",
        ]
    )
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _corner(x_mm: float) -> np.ndarray:
    shift = np.zeros((4, 4))
    shift[:3, 3] = [x_mm, -60.0, -40.0]
    return shift


def test_the_parser_offers_the_maps_that_there_are() -> None:
    from ermoe_ba.cli.parser import build_parser
    from ermoe_ba.scan_files import SCAN_SPACE

    for name in SCAN_SPACE:
        call = ["predict", "x.nii", "--out", "o", "--scan-space", name]
        assert build_parser().parse_args(call).scan_space == [name]


@pytest.mark.usefixtures("_stand_ins")
def test_without_report_the_maps_are_written(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    run = predict(write_head(), "--no-report")
    assert run.files() == {
        "predictions.tsv",
        "qc.html",
        *(f"head_{suffix}" for suffix in OUTPUTS if suffix != "report.html"),
    }


@pytest.mark.usefixtures("_stand_ins")
def test_the_chronological_age_changes_no_predicted_age(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head("sub-01_T1w.nii.gz")
    ages: list[Any] = []
    for number, age in enumerate(("25", "80.5", "n/a")):
        participants = tmp_path / "participants.tsv"
        participants.write_text(f"participant_id\tage\nsub-01\t{age}\n", encoding="utf-8")
        run = predict(
            scan, "--no-maps", "--participants", participants, out=tmp_path / f"out-{number}"
        )
        ages.append(run.table.iloc[0])
    ages.append(predict(scan, "--no-maps").table.iloc[0])
    assert len({row["predicted_age"] for row in ages}) == 1
    predicted = ages[0]["predicted_age"]
    assert ages[0]["brain_age_gap"] == pytest.approx(predicted - 25)
    assert ages[1]["brain_age_gap"] == pytest.approx(predicted - 80.5)
    for row in ages[2:]:
        assert pd.isna(row["chronological_age"])
        assert pd.isna(row["brain_age_gap"])


@pytest.mark.usefixtures("_stand_ins")
def test_who_is_missing_from_the_table_is_predicted_without_an_age(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    participants = tmp_path / "participants.tsv"
    participants.write_text("participant_id\tage\nsub-02\t50\n", encoding="utf-8")
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in ("01", "02", "03")]
    run = predict(*scans, "--no-maps", "--participants", participants)
    assert run.code == 0
    assert run.table["status"].tolist() == ["ok"] * 3
    assert run.table["chronological_age"].fillna(-1).tolist() == [-1, 50, -1]
    assert run.table["brain_age_gap"].isna().tolist() == [True, False, True]
    bare = predict(*scans, "--no-maps", "--overwrite")
    assert run.table["predicted_age"].tolist() == bare.table["predicted_age"].tolist()
    notes = [line for line in run.stderr.splitlines() if "--participants" in line]
    assert len(notes) == 1
    assert "found none of 2 (01, ...)" in notes[0]
    assert "--participants" not in bare.stderr
    one = predict(scans[0], scans[1], "--no-maps", "--overwrite", "--participants", participants)
    assert "found none of 1 (01): " in one.stderr


@pytest.mark.usefixtures("_stand_ins")
def test_overwrite_replaces_the_old_results(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head()
    first = predict(scan, "--no-maps")
    (first.out / "head_prediction.json").write_text("old", encoding="utf-8")
    again = predict(scan, "--no-maps", "--overwrite")
    assert again.code == 0
    json.loads((again.out / "head_prediction.json").read_text(encoding="utf-8"))
    assert len(again.table) == 1


@pytest.mark.usefixtures("_stand_ins")
def test_old_results_do_not_stand_beside_new_ones(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head()
    assert MAPS[0] in {name.removeprefix("head_") for name in predict(scan).files()}
    run = predict(scan, "--no-maps", "--overwrite")
    assert run.files() == {
        "predictions.tsv",
        "qc.html",
        *(f"head_{suffix}" for suffix in OUTPUTS if suffix not in MAPS),
    }
    scan.write_text("damaged", encoding="utf-8")
    run = predict(scan, "--overwrite")
    assert run.code == 1
    assert run.files() == {"predictions.tsv", "qc.html"}


@pytest.mark.usefixtures("_stand_ins")
def test_an_extra_that_is_missing_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    def needs(path: Path) -> str:
        raise UsageError(f"{path}: reading DICOM needs an extra; install it: pip install it.")

    monkeypatch.setattr("ermoe_ba.workers.predictor.content_hash", needs)
    scan = write_head()
    run = predict(scan)
    assert run.code == 1
    wanted = f"{scan}: reading DICOM needs an extra; install it: pip install it."
    assert run.table["message"].tolist() == [wanted]


@pytest.mark.usefixtures("_stand_ins")
def test_results_of_scans_that_are_no_longer_meant_are_removed_or_told(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    """Maps and reports are made of all that a folder holds."""
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    both = predict(*scans, "--no-maps")
    run = predict(scans[1], "--no-maps", "--resume")
    assert "also holds 1 scans that are not given now (sub-1)" in run.stderr
    assert run.files() == both.files()
    run = predict(scans[1], "--no-maps", "--overwrite")
    assert "also holds" not in run.stderr
    assert run.files() == {name for name in both.files() if not name.startswith("sub-1_")}


def test_info_does_without_bundled_atlases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "registry.toml").touch()
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(tmp_path))
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["atlases"] == {}


def _labels(path: Path, changes: dict[tuple[int, int, int], float]) -> Path:
    data = np.zeros(MODEL_GRID.shape, dtype=np.float32)
    data[40:50, 50:60, 40:50] = 3
    for voxel, value in changes.items():
        data[voxel] = value
    nib.Nifti1Image(data, MODEL_GRID.affine).to_filename(path)
    return path


@pytest.mark.parametrize("value", [-1.0, float("nan"), 3e9])
def test_an_atlas_of_impossible_labels_is_a_usage_error(
    tmp_path: Path, predict: Callable[..., Run], value: float
) -> None:
    atlas = _labels(tmp_path / "atlas.nii.gz", {(1, 2, 3): value})
    run = predict(tmp_path / "scan.nii", "--atlas", atlas)
    assert run.code == 2
    assert "labels must lie between 0 and" in run.stderr


def test_labels_that_the_table_leaves_out_are_regions_all_the_same(tmp_path: Path) -> None:
    from ermoe_ba.atlas import load_atlas

    path = _labels(tmp_path / "atlas.nii.gz", {(45, 55, 45): 7})
    (tmp_path / "atlas.tsv").write_text("index\tname\n3\tcube\n99\tgone\n", encoding="utf-8")
    labels = load_atlas(str(path)).labels
    assert labels[["index", "name", "hemisphere"]].to_numpy().tolist() == [
        [3, "cube", "n/a"],
        [7, "label 7", "n/a"],
    ]


@pytest.mark.usefixtures("_stand_ins")
def test_debug_shows_the_traceback_of_a_bug(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    run = predict(write_head("bug.nii.gz"), "--debug")
    assert run.code == 1
    assert "Traceback" in run.stderr
    assert "ZeroDivisionError" in run.stderr


@pytest.mark.usefixtures("_stand_ins")
def test_a_folder_that_cannot_be_written_is_a_usage_error(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    run = predict(write_head(), out=blocked)
    assert run.code == 2
    assert str(blocked) in run.stderr


def test_a_wrong_recipe_gives_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[run]\n", encoding="utf-8")
    code = main(
        ["cross-validate", str(recipe), "--participants", "p.tsv", "--out", str(tmp_path / "o")]
    )
    assert code == 2
    assert str(recipe) in capsys.readouterr().err


# Going on with a run


def _results(out: Path) -> dict[str, bytes]:
    """All files but for the seconds that the work took."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.name.endswith("prediction.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            found[path.name] = json.dumps({**content, "seconds": 0}).encode()
        elif path.name.endswith("predictions.tsv"):
            table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
            found[path.name] = table.drop(columns="seconds").to_csv().encode()
        elif path.is_file():
            found[path.name] = path.read_bytes()
    return found


@pytest.mark.usefixtures("_stand_ins")
def test_going_on_keeps_what_is_finished_and_does_the_rest(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    whole = predict(*scans, "--no-report", out=tmp_path / "whole")
    run = predict(scans[0], "--no-report")
    first = run.out / "sub-1_prediction.json"
    stamp = first.stat().st_mtime_ns
    again = predict(*scans, "--no-report", "--resume")
    assert again.code == 0
    assert "1 of 2 scans had been finished before" in again.stdout
    assert first.stat().st_mtime_ns == stamp
    assert _results(again.out) == _results(whole.out)


@pytest.mark.usefixtures("_stand_ins")
@pytest.mark.parametrize("change", ["input", "age", "maps", "file gone", "atlas", "damaged"])
def test_going_on_does_again_what_would_come_out_otherwise(
    tmp_path: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    atlases: Path,
    change: str,
) -> None:
    scan = write_head("sub-1_T1w.nii.gz")
    run = predict(scan, "--no-report")
    written = run.out / "sub-1_prediction.json"
    arguments: list[str | Path] = ["--no-report"]
    if change == "input":
        head = nib.load(scan).get_fdata()
        write_head("sub-1_T1w.nii.gz", data=head * 2)
    elif change == "age":
        people = tmp_path / "participants.tsv"
        people.write_text("participant_id\tage\nsub-1\t40\n", encoding="utf-8")
        arguments += ["--participants", people]
    elif change == "maps":
        arguments = ["--no-maps"]
    elif change == "file gone":
        (run.out / "sub-1_regions.tsv").unlink()
    elif change == "atlas":
        atlas = _labels(tmp_path / "other.nii.gz", {})
        arguments += ["--atlas", atlas]
    else:
        written.write_text(written.read_text(encoding="utf-8")[:200], encoding="utf-8")
    again = predict(scan, *arguments, "--resume")
    assert again.code == 0
    assert "had been finished before" not in again.stdout
    fresh = predict(scan, *arguments, out=tmp_path / "fresh")
    assert _results(again.out) == _results(fresh.out)


def test_scans_that_the_model_was_trained_on_are_told_as_such(
    ensemble: Ensemble,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scan 2 under another's name, scan 3 in the name of 1; asked of a model that does not tell."""
    scans = [write_head(f"sub-{n}_T1w.nii.gz", shape=(20, 22, 22 + n)) for n in (1, 2, 3, 4)]
    unknown = predict(*scans, "--no-report")
    assert unknown.table["seen_in_training"].isna().all()
    assert "Not known whether seen in training: 4 of 4 scans" in unknown.stderr
    table = pd.DataFrame(
        {
            "participant_id": ["z", "3"],
            "session_id": ["n/a", "n/a"],
            "voxel_hash": [voxel_hash(read_t1w(scans[1])), "0"],
        }
    )
    keep_training_scans(kept_model, table, None)
    told = replace(ensemble, training_scans=TrainingScans.of(read_training_scans(kept_model)))
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: told)
    # What was not known before is asked again, and the ages stay.
    run = predict(*scans[:3], scans[3], "--resume")
    assert "had been finished before" not in run.stdout
    assert run.table["seen_in_training"].tolist() == ["no", "yes", "name", "no"]
    for column in ("predicted_age", "predicted_age_lower", "predicted_age_upper"):
        assert run.table[column].tolist() == unknown.table[column].tolist()
    assert "Seen in training: 1 of 4 scans" in run.stderr
    assert "Not known" not in run.stderr
    traced = json.loads((run.out / "sub-1_prediction.json").read_text(encoding="utf-8"))
    assert traced["seen_in_training"] == "no"
    assert traced["provenance"]["training_scans"] == told.training_scans.identity
    report = (run.out / "sub-2_report.html").read_text(encoding="utf-8")
    assert "The model was trained on this very scan" in report
    page = (run.out / "qc.html").read_text(encoding="utf-8")
    assert page.count("Seen in training") == page.count("Name in training") == 1


@pytest.mark.usefixtures("_stand_ins")
def test_going_on_tries_again_what_failed(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head("sub-1_T1w.nii.gz")
    good = scan.read_bytes()
    scan.write_bytes(good[:50])
    assert predict(scan, "--no-maps").code == 1
    scan.write_bytes(good)
    assert predict(scan, "--no-maps", "--resume").table["status"].tolist() == ["ok"]


@pytest.mark.usefixtures("_stand_ins")
def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(
    write_head: WriteHead, predict: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scans differ from results in that they can be read: a full disk is no scan's fault."""
    import resource
    import signal

    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The table fits in 20 kB, no volume does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        run = predict(*scans, "--no-maps")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert run.code == 2
    assert run.stderr.splitlines()[-1].startswith(
        "ermoe-ba: inputs must be readable, and results writable; found: File too large. Mend that"
    )
    assert run.files() == {"predictions.tsv"} or run.files() == {
        "predictions.tsv",
        "sub-1_desc-brain_mask.nii.gz",
    }
    assert predict(*scans, "--no-maps", "--resume").code == 0


@pytest.mark.usefixtures("_stand_ins")
def test_names_that_the_terminal_cannot_show_are_told_all_the_same(
    tmp_path: Path, write_head: WriteHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told last must not end a batch that is done."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    scan = write_head("\u00fc.nii.gz")
    assert main(["predict", str(scan), "--out", str(tmp_path / "out"), "--no-maps"]) == 0
    screen.flush()
    assert rb"/\xfc.nii.gz: predicted brain age" in screen.buffer.getvalue()


@pytest.mark.usefixtures("_stand_ins")
def test_names_that_no_table_could_hold_are_told_in_print(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head("odd.nii.gz").rename(tmp_path / "a\nb\tc.nii.gz")
    bytes_name = tmp_path / b"\xff.nii.gz".decode("utf-8", "surrogateescape")
    shutil.copy(scan, bytes_name)
    run = predict(scan, bytes_name, tmp_path / "no\nfile.nii", "--no-maps")
    assert run.table["status"].tolist() == ["ok", "ok", "failed"]
    assert run.table["input"].tolist() == [
        f"{tmp_path}/{name}" for name in ("a\\nb\\tc.nii.gz", "\\udcff.nii.gz", "no\\nfile.nii")
    ]
    assert len((run.out / "predictions.tsv").read_text(encoding="utf-8").splitlines()) == 4


# Quality


@pytest.mark.usefixtures("_stand_ins")
def test_a_scan_of_another_contrast_is_refused_and_costs_no_other(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scans = [write_head("inverted_T1w.nii.gz"), write_head("sub-1_T1w.nii.gz")]
    run = predict(*scans, "--no-maps")
    assert run.code == 1
    assert run.table["status"].tolist() == ["refused", "ok"]
    row = run.table.iloc[0]
    assert pd.isna(row["predicted_age"])
    assert "white matter must be brighter" in row["message"]
    assert "--force" in row["message"]
    assert "contrast_low" in row["qc_flags"].split(";")
    assert f"refused {scans[0]}" in run.stderr
    assert "1 of 2 scans were refused" in run.stdout
    assert not [name for name in run.files() if name.startswith("inverted")]
    page = (run.out / "qc.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2
    assert page.count('<tr class="refused">') == 1


@pytest.mark.usefixtures("_stand_ins")
def test_no_interval_begins_before_birth(
    ensemble: Ensemble,
    write_head: WriteHead,
    predict: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interval of 200 years either way; its upper end stays where it was."""
    wide = replace(ensemble, card=replace(ensemble.card, half_width=200.0))
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: wide)
    row = predict(write_head(), "--no-maps").table.iloc[0]
    assert 0 < row["predicted_age"] < 200
    assert row["predicted_age_lower"] == 0
    assert row["predicted_age_upper"] == pytest.approx(row["predicted_age"] + 200)


@pytest.mark.usefixtures("_stand_ins")
def test_force_gives_the_age_with_the_reason_against_it(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head("inverted_T1w.nii.gz")
    run = predict(scan, "--no-maps", "--force")
    assert run.code == 0
    row = run.table.iloc[0]
    assert row["status"] == "ok"
    assert row["predicted_age"] > 0
    assert row["message"].startswith("forced: ")
    content = json.loads((run.out / "inverted_prediction.json").read_text(encoding="utf-8"))
    assert content["provenance"]["forced"] == "yes"
    (check,) = [c for c in content["quality_checks"] if c["flag"] == "contrast_low"]
    assert check["outcome"] == "refused"
    assert check["value"] == content["quality"]["white_grey_contrast"] < check["refuse_at"]
    # What was forced is no result of a run that does not force.
    again = predict(scan, "--no-maps", "--resume")
    assert again.code == 1
    assert again.table["status"].tolist() == ["refused"]
    assert "inverted_prediction.json" not in again.files()


@pytest.mark.usefixtures("_stand_ins")
def test_results_tell_no_folder_of_their_machine_and_go_on_elsewhere(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    """One scan that is fine and one that is forced, then both in another folder."""
    scans = [write_head("inverted_T1w.nii.gz"), write_head("sub-1_T1w.nii.gz")]
    atlas = _labels(tmp_path / "block.nii.gz", {})
    options = ("--force", "--atlas", str(atlas))
    run = predict(*scans, *options)
    assert run.code == 0
    told = [path for path in run.out.iterdir() if os.fsencode(tmp_path) in path.read_bytes()]
    # The table is the user's own: it names the files as they were given.
    assert [path.name for path in told] == ["predictions.tsv"]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    scans = [scan.rename(moved / scan.name) for scan in scans]
    again = predict(*scans, *options, "--resume")
    assert "2 of 2 scans had been finished before" in again.stdout
    assert again.table["input"].tolist() == list(map(str, scans))


@pytest.mark.usefixtures("_stand_ins")
def test_ages_beyond_the_training_cohort_are_flagged_and_told(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    """The stand-in was trained on people of 25 to 75 years."""
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tage\nsub-1\t75\nsub-2\t75.5\n", encoding="utf-8")
    run = predict(*scans, "--no-maps", "--participants", table)
    assert run.code == 0
    flags = [str(text).split(";") for text in run.table["qc_flags"]]
    assert ["age_outside_training" in found for found in flags] == [False, True]
    assert f"flagged {scans[1]}: " in run.stderr


@pytest.mark.usefixtures("_stand_ins")
def test_intervals_widen_where_a_scan_is_unlike_what_the_model_learnt_from(
    write_head: WriteHead,
    predict: Callable[..., Run],
    ensemble: Ensemble,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stand-in's half-width is 12 years; far below the mean of each number, all are far off."""
    numbers = len(FAMILIES) * len(TISSUES)
    far = Likeness(mean_q=np.full(numbers, -2.0), precision_qq=np.eye(numbers))
    near = Likeness(mean_q=np.full(numbers, -2.0), precision_qq=np.zeros((numbers, numbers)))
    scan = write_head("sub-1_T1w.nii.gz")
    rows = []
    for likeness in (far, near):
        rule = Widening(
            model_id=ensemble.model_id,
            # Two seeds, so two stems.
            likeness_s=(likeness, likeness),
            start=1.0,
            slope=0.5,
            provenance={},
        )
        told = replace(ensemble, widening=rule)
        monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_, e=told: e)
        run = predict(scan, "--no-maps", "--resume")
        assert run.code == 0
        # Another rule gives another interval: nothing is kept of the run before.
        assert "had been finished before" not in run.stdout
        content = json.loads((run.out / "sub-1_prediction.json").read_text(encoding="utf-8"))
        rows.append((run.table.iloc[0], content, run))
    (wide, wide_content, wide_run), (narrow, narrow_content, narrow_run) = rows
    # Shares lie between 0 and 1, so that each number is at least 2 from its mean, and at most 3.
    distance = wide_content["quality"]["description_distance"]
    assert 2.0 <= distance <= 3.0
    assert wide["interval_widening"] == pytest.approx(1 + 0.5 * (distance - 1))
    width = wide["predicted_age_upper"] - wide["predicted_age_lower"]
    assert width == pytest.approx(24 * wide["interval_widening"])
    assert "interval_widened" in wide["qc_flags"].split(";")
    assert f"widened {wide['interval_widening']:.2f} times" in wide_run.stdout
    (check,) = [c for c in wide_content["quality_checks"] if c["flag"] == "interval_widened"]
    assert (check["value"], check["flag_at"], check["outcome"]) == (distance, 1.0, "flagged")
    assert narrow["predicted_age"] == wide["predicted_age"]
    assert narrow["interval_widening"] == 1.0
    assert narrow["predicted_age_upper"] - narrow["predicted_age_lower"] == pytest.approx(24)
    assert "interval_widened" not in str(narrow["qc_flags"])
    assert "widened" not in narrow_run.stdout
    rules = {c["provenance"]["interval_widening_rule"] for c in (wide_content, narrow_content)}
    assert len(rules) == 2
    assert "none" not in rules


# Preprocessing, and its use


class CountingPreprocessor(FakePreprocessor, Preprocessor):
    """The stand-in, with the real one's list of steps; counts the scans it sees."""

    seen: ClassVar[list[str]] = []

    def __init__(self, config: PreprocessConfig, device: str, *, force: bool = False) -> None:
        Preprocessor.__init__(self, config, device, force=force)

    def __call__(self, path: Path, announce: Callable[[str], None] | None = None) -> ScanState:
        self.seen.append(path.name)
        return FakePreprocessor.__call__(self, path, announce)


@pytest.fixture
def seen(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans that were preprocessed."""
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: ensemble)
    for worker in ("predictor", "derivative_maker"):
        monkeypatch.setattr(f"ermoe_ba.workers.{worker}.Preprocessor", CountingPreprocessor)
    CountingPreprocessor.seen.clear()
    return CountingPreprocessor.seen


def _preprocess(*arguments: str | Path) -> int:
    return main(["preprocess", *map(str, arguments)])


def test_a_prediction_from_derivatives_is_the_same_and_preprocesses_nothing(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run], seen: list[str]
) -> None:
    scans = [write_head("sub-1_ses-a_T1w.nii.gz"), write_head("P-2_T1w.nii.gz")]
    direct = predict(*scans, "--no-report", out=tmp_path / "direct")
    seen.clear()
    assert _preprocess(*scans, "--out", tmp_path / "prep") == 0
    assert seen == [scan.name for scan in scans]
    seen.clear()
    run = predict(*scans, "--no-report", "--preprocessed", tmp_path / "prep")
    assert seen == []
    assert _results(run.out) == _results(direct.out)


def test_a_derivative_of_an_older_scan_is_passed_over(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run], seen: list[str]
) -> None:
    scan = write_head("sub-1_T1w.nii.gz")
    assert _preprocess(scan, "--out", tmp_path / "prep") == 0
    write_head("sub-1_T1w.nii.gz", data=nib.load(scan).get_fdata() * 2)
    seen.clear()
    predict(scan, "--no-maps", "--preprocessed", tmp_path / "prep")
    assert seen == ["sub-1_T1w.nii.gz"]


def test_preprocessing_again_does_what_is_missing_alone(
    tmp_path: Path, write_head: WriteHead, seen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    scans = [write_head(f"sub-{n}_T1w.nii.gz") for n in (1, 2)]
    bad = write_head("sub-3_T1w.nii.gz")
    bad.write_bytes(b"damaged")
    assert _preprocess(scans[0], "--out", tmp_path / "prep") == 0
    # The page is the batch's own, and batches differ.
    files = set((tmp_path / "prep").rglob("*")) - {tmp_path / "prep" / "qc.html"}
    first = {p: p.read_bytes() for p in files if p.is_file()}
    seen.clear()
    assert _preprocess(*scans, bad, "--out", tmp_path / "prep") == 1
    assert seen == ["sub-2_T1w.nii.gz", "sub-3_T1w.nii.gz"]
    assert "failed  " + str(bad) in capsys.readouterr().err
    assert {p: p.read_bytes() for p in first} == first
    assert not (tmp_path / "prep" / "sub-3").exists()
    seen.clear()
    assert _preprocess(*scans, "--out", tmp_path / "prep", "--overwrite") == 0
    assert len(seen) == 2
    assert {p: p.read_bytes() for p in first} == first


# As a BIDS App


@pytest.fixture
def dataset(tmp_path: Path, write_head: WriteHead) -> Path:
    """Two participants; the first has two sessions, one of them with two runs."""
    pytest.importorskip("bids")
    root = tmp_path / "dataset"
    for number, name in enumerate(
        ("sub-1_ses-a_T1w", "sub-1_ses-b_run-1_T1w", "sub-1_ses-b_run-2_T1w", "sub-2_T1w")
    ):
        folder = root.joinpath(*(p for p in name.split("_") if p[:4] in ("sub-", "ses-")), "anat")
        folder.mkdir(parents=True, exist_ok=True)
        head = nib.load(write_head()).get_fdata() + number
        write_head(f"{name}.nii.gz", data=head).rename(folder / f"{name}.nii.gz")
    (root / "dataset_description.json").write_text(
        '{"Name": "Heads", "BIDSVersion": "1.10.0"}', encoding="utf-8"
    )
    (root / "participants.tsv").write_text(
        "participant_id\tage\nsub-1\t40\nsub-2\tn/a\n", encoding="utf-8"
    )
    return root


def _app(*arguments: str | Path) -> int:
    return main([*map(str, arguments)])


def test_participants_one_by_one_and_then_the_group(
    tmp_path: Path, dataset: Path, seen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _app(dataset, out, "group") == 2
    assert "Run participant first" in capsys.readouterr().err
    assert _app(dataset, out, "participant", "--participant-label", "1", "--no-report") == 0
    app_told = capsys.readouterr().err
    assert not (out / "predictions.tsv").exists()
    assert _app(dataset, out, "group") == 1
    assert f"no results yet: {out / 'sub-2' / 'sub-2_predictions.tsv'}" in capsys.readouterr().err
    assert _app(dataset, out, "participant", "--participant_label", "sub-2", "--no-report") == 0
    assert len(seen) == 4
    # Said of participant 1 alone, in its own job, once.
    assert app_told.count("1 participants have several sessions but one age (1)") == 1
    assert "one age" not in capsys.readouterr().err
    assert _app(dataset, out, "group") == 0
    table = pd.read_csv(out / "predictions.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert table.columns.tolist() == list(PREDICTION_COLUMNS)
    people = table[["participant_id", "session_id", "chronological_age"]].to_numpy().tolist()
    assert people == [
        ["1", "a", "40.0"],
        ["1", "b", "40.0"],
        ["1", "b", "40.0"],
        ["2", "n/a", "n/a"],
    ]
    assert table["predicted_age"].nunique() == 4
    for row in table.to_dict("records"):
        name = Path(row["input"]).name.removesuffix("_T1w.nii.gz")
        (found,) = out.rglob(f"{name}_prediction.json")
        content = json.loads(found.read_text(encoding="utf-8"))
        assert repr(content["predicted_age"]) == row["predicted_age"]
        # The table names the file, the result its place in the data set.
        assert row["input"] == str(dataset / content["input"])
        assert found.parent.name == "anat"
        assert found.parent.parent.name == ("ses-" + row["session_id"]).replace("ses-n/a", "sub-2")


@pytest.mark.usefixtures("_stand_ins")
def test_an_age_at_a_session_counts_before_any_participants_table(
    dataset: Path, predict: Callable[..., Run]
) -> None:
    """One age a person is that of one of their sessions: at the others, the gap would be wrong."""
    sessions = "session_id\tage\nses-a\t41.5\nses-b\tn/a\n"
    (dataset / "sub-1" / "sub-1_sessions.tsv").write_text(sessions, encoding="utf-8")
    people = dataset.parent / "people.tsv"
    people.write_text("participant_id\tage\nsub-1\t50\nsub-2\t60\n", encoding="utf-8")
    run = predict(dataset, "--no-maps")
    assert run.table["chronological_age"].fillna(-1).tolist() == [41.5, 40.0, 40.0, -1]
    assert run.stderr.count("1 participants have several sessions but one age (1)") == 1
    # Maps of the cohort must know which age no table may replace.
    own = {
        p.name: json.loads(p.read_text("utf-8"))["age_at_session"] for p in run.out.glob("*.json")
    }
    assert [name for name, at_session in own.items() if at_session] == [
        "sub-1_ses-a_prediction.json"
    ]
    assert len(own) == 4
    # What earlier versions wrote does not say so, and is done again.
    stated = run.out / "sub-1_ses-a_prediction.json"
    content = json.loads(stated.read_text(encoding="utf-8"))
    del content["age_at_session"]
    stated.write_text(json.dumps(content), encoding="utf-8")
    predict(dataset, "--no-maps", "--resume")
    assert json.loads(stated.read_text(encoding="utf-8"))["age_at_session"] is True
    told = predict(dataset, "--no-maps", "--overwrite", "--participants", people).table
    assert told["chronological_age"].tolist() == [41.5, 50.0, 50.0, 60.0]
    people.write_text("participant_id\tage\nsub-2\t60\n", encoding="utf-8")
    told = predict(dataset, "--no-maps", "--overwrite", "--participants", people).table
    assert told["status"].tolist() == ["ok"] * 4
    assert told["chronological_age"].fillna(-1).tolist() == [41.5, -1, -1, 60.0]


def test_the_app_goes_on_by_itself(tmp_path: Path, dataset: Path, seen: list[str]) -> None:
    out = tmp_path / "out"
    assert _app(dataset, out, "participant", "--session-label", "b", "--no-maps") == 0
    assert seen == ["sub-1_ses-b_run-1_T1w.nii.gz", "sub-1_ses-b_run-2_T1w.nii.gz"]
    seen.clear()
    assert _app(dataset, out, "participant", "--no-maps") == 0
    assert seen == ["sub-1_ses-a_T1w.nii.gz", "sub-2_T1w.nii.gz"]
    seen.clear()
    assert _app(dataset, out, "participant", "--no-maps", "--overwrite") == 0
    assert len(seen) == 4


def test_one_scan_a_session_is_told(
    tmp_path: Path, dataset: Path, seen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--no-maps", "--one-per-session")
    assert _app(dataset, tmp_path / "out", "participant", *arguments) == 0
    assert "sub-1_ses-b_run-1_T1w.nii.gz" not in seen
    assert len(seen) == 3
    assert (
        "sub-1_ses-b_run-2_T1w.nii.gz stands for its session; left out: "
        "sub-1_ses-b_run-1_T1w.nii.gz"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["x", "y", "participant"], ["x", "y", "group"]])
def test_a_folder_that_is_no_data_set_is_a_usage_error(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "found no dataset_description.json" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["participants", "session"])
def test_another_level_is_a_usage_error(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x", "y", level]) == 2
    assert "usage: ermoe-ba" in capsys.readouterr().err


@pytest.fixture
def kept_model(tmp_path: Path, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder that `predict` believes to have used; of weights, only the hash counts."""
    folder = tmp_path / "model"
    save_card(folder, ensemble.card)
    (folder / "fold-0.safetensors").write_bytes(b"weights")
    # echo -n weights | sha256sum
    named = replace(ensemble, model_id="random-9a129038d9a0")
    monkeypatch.setattr("ermoe_ba.workers.predictor.load_ensemble", lambda *_: named)
    monkeypatch.setattr("ermoe_ba.workers.predictor.Preprocessor", FakePreprocessor)
    return folder


def test_reports_are_made_again_byte_for_byte_with_an_index(
    tmp_path: Path,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "none_T1w.nii.gz").write_bytes(b"no scan")
    run = predict(write_head("sub-1_T1w.nii.gz"), tmp_path / "none_T1w.nii.gz")
    report = run.out / "sub-1_report.html"
    first = report.read_bytes()
    report.unlink()
    assert main(["report", str(run.out), "--model", str(kept_model)]) == 0
    assert "1 of 1 reports made." in capfd.readouterr().out
    assert report.read_bytes() == first
    index = (run.out / "index.html").read_text(encoding="utf-8")
    assert '<a href="sub-1_report.html">sub-1</a>' in index
    assert "brain ages of 2 scans" in index
    assert re.search(r'<tr class="failed"[^>]*><td>none</td>', index)
    assert 'href="qc.html"' in index
    # A run that replaces the ages leaves no index that tells of the former ones.
    predict(tmp_path / "none_T1w.nii.gz", "--overwrite")
    assert not (run.out / "index.html").exists()


def test_rows_without_a_result_are_those_of_no_input_that_has_one(tmp_path: Path) -> None:
    """Two files of one name and person, of which the one has an age; and what an old table says."""
    row = {"participant_id": "1", "session_id": None, "status": "ok", "predicted_age": 40.1}
    failed = {**row, "status": "failed", "predicted_age": None}
    fresh = [{**row, "input": "a/1.nii"}, {**failed, "input": "b/1.nii"}]
    write_table(tmp_path / "sub-1" / "sub-1_predictions.tsv", predictions_table(fresh))
    old = [{**failed, "input": "a/1.nii"}, {**failed, "input": "c/1.nii"}]
    for name in ("old", "older"):
        write_table(tmp_path / name / "predictions.tsv", predictions_table(old))
    write_table(tmp_path / "predictions.tsv", predictions_table(fresh))
    result = {**row, "input": "1.nii"}
    others = rows_without_result(tmp_path, [result])
    assert sorted(other["input"] for other in others) == ["b/1.nii", "c/1.nii"]
    assert len(rows_without_result(tmp_path, [{**result, "predicted_age": 40.2}])) == 3


def test_a_report_can_be_made_again_with_an_atlas_whose_table_lies_elsewhere(
    tmp_path: Path,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    capfd: pytest.CaptureFixture[str],
) -> None:
    atlas, names = _labels(tmp_path / "block.nii.gz", {}), tmp_path / "names.tsv"
    names.write_text("index\tname\n3\tthe block\n", encoding="utf-8")
    chosen = ["--atlas", str(atlas), "--atlas-labels", str(names)]
    run = predict(write_head("sub-1_T1w.nii.gz"), *chosen)
    report = run.out / "sub-1_report.html"
    first = report.read_bytes()
    assert b"the block" in first
    again = ["report", str(run.out), "--model", str(kept_model)]
    assert main([*again, "--atlas", str(atlas)]) == 1
    assert "its table with --atlas-labels" in capfd.readouterr().err
    report.unlink()
    assert main([*again, *chosen]) == 0
    assert report.read_bytes() == first


def test_a_report_is_made_of_its_own_model_atlas_and_maps_alone(
    tmp_path: Path,
    kept_model: Path,
    write_head: WriteHead,
    predict: Callable[..., Run],
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = predict(write_head("sub-1_T1w.nii.gz"), "--no-report")
    prediction = run.out / "sub-1_prediction.json"
    told = json.loads(prediction.read_text(encoding="utf-8"))

    def refused(*options: str) -> str:
        assert main(["report", str(run.out), "--model", str(kept_model), *options]) == 1
        assert not (run.out / "sub-1_report.html").exists()
        return capfd.readouterr().err

    prediction.write_text(json.dumps({**told, "model_id": "random-000000000000"}), "utf-8")
    assert "needs the model that predicted it, random-000000000000; found random-" in refused()
    provenance = {**told["provenance"], "atlas_hash": "0"}
    prediction.write_text(json.dumps({**told, "provenance": provenance}), "utf-8")
    assert "needs the atlas of its region table, hash 0" in refused()
    provenance = {**told["provenance"], "atlas": "none"}
    prediction.write_text(json.dumps({**told, "provenance": provenance}), "utf-8")
    assert "found that it was made with --no-maps" in refused()
    prediction.write_text(json.dumps({"predicted_age": 3}), "utf-8")
    assert "must hold a prediction of this version; found no brain_age_gap, chron" in refused()
    prediction.write_text("{", "utf-8")
    assert "must be readable JSON" in refused()
    prediction.write_text(json.dumps(told), "utf-8")
    maps = run.out / "sub-1_desc-experts_probseg.nii.gz"
    maps.unlink()
    assert maps.name in refused()
    assert "There is no model" in (main(["report", str(run.out)]), capfd.readouterr().err)[1]


def test_a_folder_without_predictions_is_no_cohort(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "must hold what `ermoe-ba predict` wrote; found no file" in capfd.readouterr().err


@pytest.mark.usefixtures("_stand_ins")
def test_the_table_of_a_large_batch_is_written_in_linear_time(
    tmp_path: Path, predict: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any moment at most one finished scan in a hundred is missing, and no row is wasted."""
    sizes: list[int] = []

    def counted(table: Path, outcomes: Sequence[Outcome]) -> None:
        sizes.append(len(outcomes))
        write_rows(table, outcomes)

    monkeypatch.setattr("ermoe_ba.cli.predict.write_rows", counted)
    scans = [tmp_path / f"missing-{n}.nii" for n in range(250)]
    run = predict(*scans)
    assert run.code == 1
    assert [Path(row).name for row in run.table["input"]] == [path.name for path in scans]
    assert sizes[:102] == [0, *range(1, 102)]
    # From 101 on, each table is the first that is longer by a hundredth.
    steps = list(itertools.pairwise(sizes[101:-1]))
    assert steps
    assert all(new - 1 < 1.01 * old <= new for old, new in steps)
    assert sizes[-1] == 250


@pytest.mark.usefixtures("_stand_ins")
def test_a_large_batch_has_its_table_as_parquet_too(
    tmp_path: Path, predict: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    monkeypatch.setattr("ermoe_ba.parquet.PARQUET_ROWS", 2)
    parquet = tmp_path / "out" / "predictions.parquet"
    run = predict(tmp_path / "a.nii", tmp_path / "b.nii")
    assert read_text_table(parquet).equals(read_text_table(run.out / "predictions.tsv"))
    assert str(parquet) in run.stdout
    # One scan alone is no large batch, and the former one's table would tell of others.
    assert str(parquet) not in predict(tmp_path / "a.nii", "--overwrite").stdout
    assert not parquet.exists()
