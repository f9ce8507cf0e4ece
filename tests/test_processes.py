"""Several processes that train together do what one does with the whole batch."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from ermoe_ba.cli.main import main
from ermoe_ba.training.batch import Batch, shares
from ermoe_ba.training.processes import Processes

SCRIPT = Path(__file__).with_name("training_runs.py")
NODES = Path(__file__).parents[1] / "pipelines" / "two_nodes.sh"


@pytest.mark.parametrize(("count", "per_process"), [(1, 1), (1, 4), (2, 1), (3, 2), (4, 3)])
def test_every_sample_is_in_one_share(count: int, per_process: int) -> None:
    """Seven samples, in up to twelve shares: equal but for one, their weights sum to 1."""
    numbers = torch.arange(7)
    batch = Batch((numbers, 10.0 * numbers), ("a", "b"))
    found = [
        share for process in range(count) for share in shares(batch, process, count, per_process)
    ]
    assert len(found) == count * per_process
    seen = [n for share in found for n in numbers[share.rows].tolist()]
    assert seen == list(range(7))
    sizes = [share.rows.stop - share.rows.start for share in found]
    assert max(sizes) - min(sizes) <= 1
    assert [share.weight for share in found] == [size / 7 for size in sizes]
    for share, size in zip(found, sizes, strict=True):
        # Whoever has nothing takes part with somebody else's sample, at no weight.
        assert [len(tensor) for tensor in share.tensors] == [max(size, 1)] * 2
        assert torch.equal(share.tensors[1], 10.0 * share.tensors[0])


@pytest.mark.parametrize("tensors", [(), (torch.ones(2), torch.ones(3)), (torch.ones(0),)])
def test_a_batch_without_samples_or_of_unequal_tensors_is_refused(
    tensors: tuple[torch.Tensor, ...],
) -> None:
    with pytest.raises(ValueError, match="the same number of samples, at least one"):
        Batch(tensors, ("a",))


def test_processes_wait_for_a_day() -> None:
    """However long the first prepares scans; the library's own patience ends after minutes."""
    handler = Processes().accelerator.init_handler
    assert handler is not None
    assert handler.to_kwargs() == {"timeout": timedelta(days=1)}


@pytest.mark.parametrize("is_main", [True, False])
def test_one_process_speaks_for_all(
    is_main: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others find no metrics, since the first alone assembles them; that is no fold undone."""
    stubs = {
        "cross_validate.CrossValidation": SimpleNamespace(study=None, run=lambda _: None),
        "train.FinalModel": SimpleNamespace(study=None, run=lambda: {"mae": 7.0}),
    }
    for command in ("cross_validate", "train"):
        monkeypatch.setattr(f"ermoe_ba.cli.{command}.read_recipe", lambda _: None)
        monkeypatch.setattr(
            f"ermoe_ba.cli.{command}.tell_study", lambda _: sys.stdout.write("study\n")
        )
        monkeypatch.setattr(
            f"ermoe_ba.cli.{command}.Processes", lambda: SimpleNamespace(is_main=is_main)
        )
    for name, stub in stubs.items():
        monkeypatch.setattr(f"ermoe_ba.cli.{name}", lambda *_, _stub=stub, **__: _stub)
    words = ["recipe.toml", "--participants", "participants.tsv", "--out", "OUT"]
    assert main(["cross-validate", *words]) == 0
    assert main(["train", *words, "--run", "RUN"]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = ["study", "Fold done", "study", "Written: OUT"] if is_main else []
    assert len(lines) == len(said)
    assert all(line.startswith(word) for line, word in zip(lines, said, strict=True))


def _run(command: list[str | Path], out: Path) -> dict[str, torch.Tensor]:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable},
    )
    assert done.returncode == 0, done.stderr
    return load_file(out)


def _assert_alike(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Equal but for the order of sums in single precision, over twelve steps."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        # Steps that end no epoch have no validation error.
        torch.testing.assert_close(
            found[name],
            value,
            rtol=1e-4,
            atol=1e-4,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    # Every validation sample once, in order.
    assert found["validation"].shape == (7,)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("alone") / "out.safetensors"
    return _run([sys.executable, SCRIPT, "exact", out], out)


@pytest.mark.slow
def test_two_processes_train_as_one(alone: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Batches of 11 in shares of 1 and 2; the port is the system's choice (``--standalone``)."""
    out = tmp_path / "out.safetensors"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    _assert_alike(_run([*launch, SCRIPT, "exact", out], out), alone)


@pytest.mark.slow
def test_two_nodes_train_as_one(alone: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Two launchers, as on two machines, that meet at a port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "out.safetensors"
    _assert_alike(_run(["bash", NODES, port, SCRIPT, "exact", out], out), alone)
