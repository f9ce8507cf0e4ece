"""An evaluation as a whole: its tables, its page, and the commands that write them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scan_tables import cohort_of, write_predictions

from ermoe_ba.cli.main import main
from ermoe_ba.errors import UsageError
from ermoe_ba.evaluation import Evaluation, evaluate
from ermoe_ba.evaluation.learning_curve import learning_curve
from ermoe_ba.evaluation.out_of_fold import read_out_of_fold
from ermoe_ba.model_card import DEFAULT_MODEL, WEIGHTS
from ermoe_ba.report.cohort_page import write_cohort_page


def test_a_curve_of_tables_without_folds_is_refused(tmp_path: Path) -> None:
    path = write_predictions(tmp_path / "p.tsv", cohort_of(6), {f"{n:03d}": 0 for n in range(6)})
    with pytest.raises(UsageError, match="must have a column fold"):
        learning_curve([read_out_of_fold(path)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of forty people with what its training and its probe left behind."""
    folder = tmp_path / "run"
    path = write_predictions(folder / "predictions.tsv", cohort_of())
    metrics = evaluate(path).metrics
    probe = {"probe_mae": 5.0, "probe_mae_without_expert": [6.5, 5.25], "probe_load_gini": [0.0625]}
    (folder / "metrics.json").write_text(
        json.dumps({"n": metrics["n"], "mae": metrics["mae"], **probe}), encoding="utf-8"
    )
    (folder / "fold-0_start-1_history.tsv").write_text(
        "step\tepoch\tloss\tmae_train\tmae_validation\texpert_load_csf\n"
        "1\t0\t9\t8.5\tn/a\t0.2\n2\t1\t5\t4.5\t6\t0.25\n",
        encoding="utf-8",
    )
    # A stage whose loss is no error of age.
    (folder / "fold-0_stem_history.tsv").write_text("step\tloss\n1\t0.5\n", encoding="utf-8")
    return folder


@pytest.fixture
def participants(tmp_path: Path) -> Path:
    """Sex of all but one; a site that would like to run a script."""
    path = tmp_path / "participants.tsv"
    lines = [f"{n:03d}\t{20 + n}\t{'FM'[n % 2]}\t<script>{n % 2}</script>" for n in range(1, 40)]
    text = "\n".join(["participant_id\tage\tsex\tsite", *lines, ""])
    path.write_text(text, encoding="utf-8")
    return path


def test_the_table_keeps_rows_and_digits_and_says_nothing_of_rows_left_out(tmp_path: Path) -> None:
    scans = cohort_of(45)
    path = write_predictions(tmp_path / "predictions.tsv", scans)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines.insert(3, "zzz\t1\tn/a\t44.50000")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    evaluate(path).write(tmp_path / "out")
    written = pd.read_csv(
        tmp_path / "out" / "predictions_evaluated.tsv", sep="\t", dtype=str, keep_default_na=False
    )
    source = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(written[source.columns], source)
    new = written.columns.difference(source.columns)
    assert (written.loc[2, new] == "n/a").all()
    assert written["participant_id"][2] == "zzz"
    known = written.drop(index=2)
    assert not (known[new] == "n/a").any(axis=None)
    years = known.drop(columns="participant_id").astype(float)
    gap = years["predicted_age"] - years["chronological_age"]
    np.testing.assert_allclose(years["brain_age_gap"], gap)
    for method in ("cole", "beheshti"):
        corrected = years[f"corrected_age_{method}"] - years["chronological_age"]
        np.testing.assert_allclose(years[f"corrected_gap_{method}"], corrected)
    middle = (years["predicted_age_lower_80"] + years["predicted_age_upper_80"]) / 2
    np.testing.assert_allclose(middle, years["predicted_age"])
    sidecar = json.loads((tmp_path / "out" / "predictions_evaluated.json").read_text())
    assert set(sidecar) == set(written.columns)
    assert sidecar["corrected_gap_cole"]["Units"] == "year"
    assert "must not be quoted" in sidecar["corrected_age_beheshti"]["Description"]
    assert "Units" not in sidecar["fold"]


def test_the_tables_intervals_are_cut_at_0_and_there_alone(tmp_path: Path) -> None:
    """Predictions from 0.5 to 20 years, which err by 4 or more: some intervals reach below 0."""
    scans = [(f"{n:03d}", n / 2 + (4 if n % 2 else 9), n / 2) for n in range(1, 41)]
    table = evaluate(write_predictions(tmp_path / "predictions.tsv", scans)).table
    predicted = np.array([years for _, _, years in scans])
    lower, upper = (table[f"predicted_age_{end}_90"].to_numpy() for end in ("lower", "upper"))
    # No upper end is cut, so that it tells the half-width.
    uncut = 2 * predicted - upper
    assert (uncut < 0).any()
    assert (uncut > 0).any()
    np.testing.assert_allclose(lower, np.maximum(uncut, 0), atol=1e-9)


def test_scans_seen_in_training_are_counted_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of twelve: two by voxels, one by name, eight not, one unknown; and one seen has no age."""
    answers = ["yes", "yes", "name", *["no"] * 8, "n/a", "yes"]
    header = "participant_id\tchronological_age\tpredicted_age\tseen_in_training"
    ages = [f"{20 + 3 * n}\t{22 + 3 * n + n % 3}" for n in range(12)]
    rows = [f"p{n}\t{age}\t{answers[n]}" for n, age in enumerate([*ages, "40\tn/a"])]
    table = tmp_path / "predictions.tsv"
    table.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    assert main(["evaluate", str(table), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "Seen in training: 2 of 12 scans" in told
    assert "not out of fold" in told
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    counted = {"yes": 2, "name": 1, "no": 8, "unknown": 1}
    assert metrics["evaluation"]["seen_in_training"] == counted
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "Seen in training: 2 of 12 scans" in page
    assert 'class="remarks fine"' not in page


def test_a_table_without_the_column_tells_nothing_of_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_predictions(tmp_path / "predictions.tsv", cohort_of())
    assert main(["evaluate", str(table), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["evaluation"]["seen_in_training"] is None
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert 'class="remarks fine"' in page


def test_made_folds_are_told(tmp_path: Path) -> None:
    path = write_predictions(tmp_path / "p.tsv", cohort_of(20), {f"{n:03d}": 0 for n in range(20)})
    evaluation = evaluate(path)
    assert sorted(evaluation.table["calibration_fold"].unique()) == [0, 1, 2, 3, 4]
    assert not evaluation.metrics["evaluation"]["folds_given"]
    assert "mae_by_fold" not in evaluation.metrics


def test_what_the_run_alone_knows_is_carried_on_if_it_is_about_these_ages(run: Path) -> None:
    evaluation = evaluate(run / "predictions.tsv")
    assert evaluation.metrics["probe_load_gini"] == [0.0625]
    assert set(evaluation.record.histories) == {"fold-0_start-1"}
    for spoilt in ({"mae": 4.0}, {"mae": None}, {"n": "40"}):
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        (run / "metrics.json").write_text(json.dumps({**metrics, **spoilt}), encoding="utf-8")
        assert "probe_load_gini" not in evaluate(run / "predictions.tsv").metrics


def test_experts_bear_the_names_of_the_runs_model_where_it_can_be_read(
    tmp_path: Path, run: Path
) -> None:
    card = json.loads((WEIGHTS / DEFAULT_MODEL / "model.json").read_text(encoding="utf-8"))
    two = {**card["model"], "regions": ["grey_matter"], "num_free_experts": 1}
    for model, second in (({"model": two}, "Free 1"), ({"model": {"experts": 2}}, "expert 2")):
        (run / "model.json").write_text(json.dumps(model), encoding="utf-8")
        html = _page(tmp_path, evaluate(run / "predictions.tsv"))
        assert f"; without {second} 5.2; left as it is 5.0 years" in html


def test_a_constant_answer_is_evaluated_and_has_no_correlation(tmp_path: Path) -> None:
    path = write_predictions(
        tmp_path / "p.tsv", [(name, age, 50.0) for name, age, _ in cohort_of(12)]
    )
    evaluation = evaluate(path)
    assert evaluation.metrics["r"] is None
    assert evaluation.metrics["mae"] == pytest.approx(
        evaluation.metrics["evaluation"]["accuracy"]["overall"]["mae"]["value"]
    )
    evaluation.write(tmp_path / "out")
    write_cohort_page(tmp_path / "out" / "evaluation.html", evaluation, "constant")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["r"] is None


def _page(folder: Path, evaluation: Evaluation, title: str = "run") -> str:
    write_cohort_page(folder / "evaluation.html", evaluation, title)
    return (folder / "evaluation.html").read_text(encoding="utf-8")


def test_the_page_shows_figures_groups_and_the_note(
    tmp_path: Path, run: Path, participants: Path
) -> None:
    evaluation = evaluate(run / "predictions.tsv", participants)
    html = _page(tmp_path, evaluation)
    mae = evaluation.metrics["evaluation"]["accuracy"]["overall"]["mae"]
    assert "{value:.2f} ({lower:.2f} to {upper:.2f}) years".format(**mae) in html
    assert re.search(r"\d0 to \d9 \(worst\)", html)
    assert "<caption>By sex</caption>" in html
    assert '<th scope="row" class="short">n/a</th>' in html
    assert "Do not quote the accuracy of corrected ages." in html
    assert "without expert 2 5.2" in html
    assert "Course of training" in html
    assert "0.0625" in html
    # Nobody was scanned twice, and no other run was given.
    assert "People scanned more than once" not in html
    assert "Learning curve" not in html


def test_the_page_asks_nothing_of_others_runs_nothing_and_describes_its_pictures(
    tmp_path: Path, run: Path, participants: Path
) -> None:
    html = _page(tmp_path, evaluate(run / "predictions.tsv", participants), '"><script>x</script>')
    assert "<script" not in html
    assert "&lt;script&gt;1&lt;/script&gt;" in html
    assert not re.search(r"https?:|url\(|@import|<link", html)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in html
    images = re.findall(r"<img [^>]*>", html)
    assert len(images) == 5
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    assert html.count("<table") == html.count("<caption>")


def test_a_page_of_the_same_table_has_the_same_bytes(tmp_path: Path, run: Path) -> None:
    first = _page(tmp_path / "a", evaluate(run / "predictions.tsv"))
    assert first == _page(tmp_path / "b", evaluate(run / "predictions.tsv"))


def test_a_cohort_too_small_for_intervals_has_a_page_that_says_so(tmp_path: Path) -> None:
    path = write_predictions(tmp_path / "p.tsv", [("a", 20, 22), ("b", 35, 33), ("c", 81, 75)])
    html = _page(tmp_path, evaluate(path))
    assert html.count("too few participants for any level") == 2
    assert html.count("<img ") == 2
    # Decades of one person each have no interval: MAE, RMSE and mean gap stand alone.
    assert '<td class="n">2.0</td><td class="n">2.0</td><td class="n">+2.0</td>' in html


def test_the_command_writes_tables_and_page(
    tmp_path: Path, run: Path, participants: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = tmp_path / "smaller"
    write_predictions(smaller / "predictions.tsv", cohort_of(20))
    out = tmp_path / "out"
    code = main(
        [
            *("evaluate", str(run / "predictions.tsv"), "--out", str(out)),
            *("--participants", str(participants), "--runs", str(smaller)),
        ]
    )
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "evaluation.html",
        "metrics.json",
        "predictions_evaluated.json",
        "predictions_evaluated.tsv",
    ]
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert [p["num_train"] for p in metrics["evaluation"]["learning_curve"]] == [10, 20]
    assert "Learning curve" in (out / "evaluation.html").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert f"{metrics['mae']:.3f}" in printed
    assert "coverage 90% local" in printed


@pytest.mark.parametrize("given", ["none.tsv", "wrong.tsv"])
def test_a_wrong_table_gives_two_and_writes_nothing(
    tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.tsv").write_text("participant_id\tage\n1\t2\n", encoding="utf-8")
    code = main(["evaluate", str(tmp_path / given), "--out", str(tmp_path / "out")])
    assert code == 2
    assert given in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_cross_validation_ends_with_the_evaluation_of_its_own_ages(
    run: Path, participants: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Any] = []

    class Trained:
        """Stands for hours of training, of which `run` holds the results."""

        study = None

        def __init__(self, recipe: object, participants_path: Path, out: Path, **_: object) -> None:
            made.append((participants_path, out))

        def run(self, fold: int | None) -> dict[str, Any] | None:
            return None if fold == 0 else {"mae": 5.0}

    monkeypatch.setattr("ermoe_ba.cli.cross_validate.CrossValidation", Trained)
    monkeypatch.setattr("ermoe_ba.cli.cross_validate.tell_study", lambda _: None)
    recipe = Path(__file__).parent.parent / "pipelines" / "ixi_hh.toml"
    command = ["cross-validate", str(recipe), "--participants", str(participants)]
    command += ["--out", str(run)]
    assert main([*command, "--fold", "0"]) == 0
    assert not (run / "evaluation.html").exists()
    assert main(command) == 0
    assert made[-1] == (participants, run)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["probe_load_gini"] == [0.0625]
    assert [g["group"] for g in metrics["evaluation"]["accuracy"]["by_sex"]] == ["F", "M", "n/a"]
    assert "ixi-hh" in (run / "evaluation.html").read_text(encoding="utf-8")
