"""The command line: what it takes, its exit codes, and messages of one line."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from quick_batch import Run, WriteHead, predict, stand_ins, write_labels

from ermoe_ba.cli.main import main
from ermoe_ba.errors import UsageError

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["predict", "stand_ins"]


def test_help_is_given_without_loading_torch(fresh_python: Callable[[str], str]) -> None:
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
    told = fresh_python(call)
    for word in ("predict", "preprocess", "--jobs", "--resume", "info", "--participants"):
        assert word in told


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


def test_one_scan_loads_nothing_that_other_inputs_need(
    fresh_python: Callable[[str], str],
) -> None:
    call = "; ".join(
        [
            "import sys",
            "import ermoe_ba.cli.predict",
            "heavy = {'bids', 'sqlalchemy', 'dicom2nifti', 'ants'}",
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)",
        ]
    )
    fresh_python(call)


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
    with pytest.raises(UsageError, match="no-such"):
        main(["predict", "x.nii", "--out", str(tmp_path), "--atlas", "no-such", "--debug"])


def test_the_parser_offers_the_maps_that_there_are() -> None:
    from ermoe_ba.cli.parser import build_parser
    from ermoe_ba.scan_files import SCAN_SPACE

    for name in SCAN_SPACE:
        call = ["predict", "x.nii", "--out", "o", "--scan-space", name]
        assert build_parser().parse_args(call).scan_space == [name]


@pytest.mark.usefixtures("stand_ins")
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


@pytest.mark.parametrize("value", [-1.0, float("nan"), 3e9])
def test_an_atlas_of_impossible_labels_is_a_usage_error(
    tmp_path: Path, predict: Callable[..., Run], value: float
) -> None:
    atlas = write_labels(tmp_path / "atlas.nii.gz", {(1, 2, 3): value})
    run = predict(tmp_path / "scan.nii", "--atlas", atlas)
    assert run.code == 2
    assert "labels must lie between 0 and" in run.stderr


@pytest.mark.usefixtures("stand_ins")
def test_debug_shows_the_traceback_of_a_bug(
    write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    run = predict(write_head("bug.nii.gz"), "--debug")
    assert run.code == 1
    assert "Traceback" in run.stderr
    assert "ZeroDivisionError" in run.stderr


def test_a_wrong_recipe_gives_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[run]\n", encoding="utf-8")
    code = main(
        ["cross-validate", str(recipe), "--participants", "p.tsv", "--out", str(tmp_path / "o")]
    )
    assert code == 2
    assert str(recipe) in capsys.readouterr().err


@pytest.mark.usefixtures("stand_ins")
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
