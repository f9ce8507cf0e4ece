"""Training that was killed goes on to the same bytes, and never from half a snapshot."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ermoe_ba.checkpoint import save_member
from ermoe_ba.errors import UsageError
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.training.run_folder import RunFolder
from ermoe_ba.training.snapshot import read_snapshot, write_snapshot

SCRIPT = Path(__file__).with_name("training_runs.py")
IDENTITY = {"stage": "age", "steps": 12, "optimiser": {"learning_rate": 0.1}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scans", "drawn"])
def test_killed_training_goes_on_to_equal_bytes(kind: str, tmp_path: Path) -> None:
    """Optimiser, schedule, averages, early stopping, history, random states, order of data."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "resume", kind, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{kind}: killed 8 times; all went on to equal bytes\n"


def _state() -> dict[str, object]:
    return {
        "optimiser": {"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.999)},
        "batches": np.random.default_rng(1).bit_generator.state,
        "list": [None, True, {"nested": torch.arange(6).reshape(2, 3)}],
        "best": 0.1 + 0.2,
    }


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    """Numbers as keys, tuples, a generator's 128 bits, every digit; equal tensors, kinds kept."""
    path = tmp_path / "a.snapshot"
    write_snapshot(path, IDENTITY, _state())
    found = read_snapshot(path, IDENTITY)
    wanted = _state()
    assert torch.equal(found["optimiser"]["state"][0].pop("step"), torch.tensor(3.0))
    assert torch.equal(found["list"][2].pop("nested"), torch.arange(6).reshape(2, 3))
    wanted["optimiser"]["state"][0].pop("step")
    wanted["list"][2].pop("nested")
    assert found == wanted
    random = np.random.default_rng()
    random.bit_generator.state = found["batches"]
    assert random.random() == np.random.default_rng(1).random()


def _half(path: Path, content: bytes) -> int:
    """Write as a disk does that fills up on the way."""
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_member_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_member: Callable[..., ErmoeBrainAge]
) -> None:
    path = tmp_path / "fold-0_start-0.safetensors"
    save_member(path, make_member(seed=3))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", _half)
        with pytest.raises(OSError, match="No space left"):
            save_member(path, make_member(seed=4))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    save_member(path, make_member(seed=4))
    assert path.read_bytes() != before


def test_a_full_disk_keeps_nothing_of_what_a_stage_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    # Every second column: not contiguous, as views are.
    made = {"weights": torch.arange(200.0).reshape(10, 20)[:, ::2]}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", _half)
        with pytest.raises(OSError, match="No space left"):
            folder.kept("fold-0_stem", lambda: made)
    assert list((tmp_path / "kept").iterdir()) == []
    assert torch.equal(folder.kept("fold-0_stem", lambda: made)["weights"], made["weights"])


def test_a_full_disk_leaves_the_snapshot_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer puts half of the bytes down and then finds no space."""
    path = tmp_path / "a.snapshot"
    write_snapshot(path, IDENTITY, {"step": 2, "weights": torch.ones(100)})
    before = path.read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", _half)
        with pytest.raises(OSError, match="No space left"):
            write_snapshot(path, IDENTITY, {"step": 4, "weights": torch.zeros(100)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.snapshot"]
    assert read_snapshot(path, IDENTITY)["step"] == 2
    write_snapshot(path, IDENTITY, {"step": 4, "weights": torch.zeros(100)})
    assert read_snapshot(path, IDENTITY)["step"] == 4


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"stage": "tissue"}, "stage: 'age', now 'tissue'"),
        ({"steps": 13}, "steps: 12, now 13"),
        ({"processes": 2}, "processes: None, now 2"),
        ({"optimiser": {"learning_rate": 0.2}}, "'learning_rate': 0.1}, now"),
    ],
)
def test_a_snapshot_of_another_stage_is_refused_with_what_differs(
    tmp_path: Path, other: dict[str, object], says: str
) -> None:
    path = tmp_path / "a.snapshot"
    write_snapshot(path, IDENTITY, {"step": 2, "weights": torch.ones(2)})
    with pytest.raises(UsageError) as caught:
        read_snapshot(path, {**IDENTITY, **other})
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 60])
def test_a_damaged_snapshot_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.snapshot"
    write_snapshot(path, IDENTITY, {"step": 2, "weights": torch.ones(20)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"a\.snapshot: the snapshot cannot be read"):
        read_snapshot(path, IDENTITY)
