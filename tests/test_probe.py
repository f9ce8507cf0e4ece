"""``ermoe-ba probe`` through `main`: figures of the whole ensemble, bad scans left out by name."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from ermoe_ba.cli import probe
from ermoe_ba.cli.main import main
from ermoe_ba.errors import ScanError
from ermoe_ba.fingerprint import voxel_hash
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.t1w import read_t1w
from ermoe_ba.training_scans import TrainingScans

pytestmark = pytest.mark.usefixtures("one_torch_thread")

AGES = {"a": 30.0, "b": 45.0, "c": 70.0}


@pytest.fixture
def study(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_member: Callable[..., ErmoeBrainAge],
    small_scans: Tensor,
) -> Path:
    """Three scans with ages, seen by two members that share a stem, and one unreadable scan."""
    rows = [f"{name}\t{age}" for name, age in AGES.items()]
    table = "\n".join(["participant_id\tage", *rows, "d\tn/a", "bad\t50"])
    (tmp_path / "participants.tsv").write_text(table, encoding="utf-8")
    for name in (*AGES, "d", "bad"):
        (tmp_path / f"{name}_T1w.nii.gz").write_bytes(name.encode())
    members = [make_member(), make_member(seed=1)]
    members[1].stem = members[0].stem
    card = SimpleNamespace(preprocess=None, preprocessing_id="0")
    ensemble = SimpleNamespace(members=members, card=card, model_id="small-0", training_scans=None)

    def preprocess(path: Path) -> SimpleNamespace:
        if path.name.startswith("bad"):
            raise ScanError(path, must_hold="a scan", found="noise", remedy="Scan again.")
        picture = small_scans[0] * (1.0 + 0.1 * "abc".index(path.name[0]))
        return SimpleNamespace(image=SimpleNamespace(data=picture.numpy()))

    monkeypatch.setattr("ermoe_ba.cli.probe.load_ensemble", lambda *_: ensemble)
    monkeypatch.setattr("ermoe_ba.cli.probe.Preprocessor", lambda *_: preprocess)
    return tmp_path


def _probe(study: Path, *names: str) -> int:
    scans = [str(study / f"{name}_T1w.nii.gz") for name in names]
    table = str(study / "participants.tsv")
    return main(["probe", *scans, "--participants", table, "--out", str(study / "out")])


def test_a_probe_prints_and_writes_its_figures(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _probe(study, *AGES) == 0
    probe = json.loads((study / "out" / "probe.json").read_text(encoding="utf-8"))
    assert (probe["model_id"], probe["num_scans"]) == ("small-0", 3)
    # Silenced, both members answer their baseline, 48.5: it lies 18.5, 3.5 and 21.5 years off.
    assert probe["mae_zeroed"] == pytest.approx([np.mean([18.5, 3.5, 21.5])], abs=0.5)
    assert len(probe["mae_without_expert"]) == 5
    assert len(probe["load_gini"]) == len(probe["dead_experts"]) == 1
    assert probe["max_orthonormality_error"] < 1e-5
    printed = capsys.readouterr().out
    assert f"{probe['mae']:.3g}" in printed
    assert "probe.json" in printed


def test_scans_that_cannot_be_probed_are_named_and_left_out(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _probe(study, "a", "bad", "b", "d") == 1
    probe = json.loads((study / "out" / "probe.json").read_text(encoding="utf-8"))
    assert probe["num_scans"] == 2
    told = capsys.readouterr().err
    assert "bad_T1w.nii.gz" in told
    assert "Scan again." in told
    assert "none for d" in told


def test_one_scan_is_too_few(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _probe(study, "a", "d") == 2
    assert "of at least two people" in capsys.readouterr().err
    assert not (study / "out").exists()


def test_scans_that_the_model_was_trained_on_are_counted_and_told(
    study: Path, write_head: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """b by its voxels under another name, c by its name; of a model that tells, a is neither."""
    assert _probe(study, *AGES) == 0
    content = json.loads((study / "out" / "probe.json").read_text(encoding="utf-8"))
    assert content["seen_in_training"] == {"yes": 0, "name": 0, "no": 0, "unknown": 3}
    assert "Not known whether seen in training: 3 of 3 scans" in capsys.readouterr().err
    paths = [write_head(f"{n}_T1w.nii.gz", shape=(22, 21, 20 + i)) for i, n in enumerate(AGES)]
    trained = {"participant_id": ["z", "c"], "voxel_hash": [voxel_hash(read_t1w(paths[1])), "0"]}
    ensemble = probe.load_ensemble("small", "cpu")
    ensemble.training_scans = TrainingScans.of(pd.DataFrame(trained))
    assert _probe(study, *AGES) == 0
    again = json.loads((study / "out" / "probe.json").read_text(encoding="utf-8"))
    assert again["seen_in_training"] == {"yes": 1, "name": 1, "no": 1, "unknown": 0}
    assert {**again, "seen_in_training": content["seen_in_training"]} == content
    printed = capsys.readouterr()
    assert "Seen in training: 1 of 3 scans" in printed.err
    assert "names of people the model was trained on: 1 of 3 scans" in printed.err
    assert "yes 1  name 1  no 1  unknown 0" in printed.out


def test_a_probe_of_the_same_scans_is_the_same(study: Path) -> None:
    files = []
    for _ in range(2):
        assert _probe(study, *AGES) == 0
        files.append((study / "out" / "probe.json").read_bytes())
    assert files[0] == files[1]


def test_members_with_equal_stems_share_one(
    tmp_path: Path, make_member: Callable[..., ErmoeBrainAge]
) -> None:
    from ermoe_ba.checkpoint import share_stems

    members = [make_member(), make_member(seed=1), make_member(seed=2)]
    members[2].stem.load_state_dict(members[0].stem.state_dict())
    scan = torch.rand(1, 13, 17, 11)
    with torch.no_grad():
        before = [member(scan).age_b for member in members]
        share_stems(members)
        after = [member(scan).age_b for member in members]
    assert members[2].stem is members[0].stem
    assert members[1].stem is not members[0].stem
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
