"""Small stages of training for other processes: killed ones, and ones that train together.

Command: python tests/training_runs.py KIND OUT
         (under torchrun, several processes train together and the first writes OUT)
Result:  OUT (safetensors): weights, history, validation errors.
Command: python tests/training_runs.py resume KIND FOLDER
Result:  one line; exit code 0 if going on after every kill gave equal bytes.

KIND is "scans" (everything on: dropout, averages, early stopping, accumulation), "exact" (nothing
random inside the network, so that any number of processes must agree) or "drawn" (batches that come
from a generator when they are asked for). A kill is a SIGKILL that the process sends itself, at
"step:K", when batch K is asked for, or at "write:K", when the K-th snapshot is written and not yet
in place; nothing depends on the clock.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import nn

import ermoe_ba.training.loop
from ermoe_ba.io import remove_file
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.drawn_ahead import DrawnAhead
from ermoe_ba.training.loop import OptimiserConfig, errors, fit
from ermoe_ba.training.processes import Processes
from ermoe_ba.training.stage import Loss, Stage, Validation

# 11 a batch: two processes get 5 and 6, and their parts are uneven again.
SCANS, FEATURES, BATCH, STEPS = 23, 6, 11, 12
SNAPSHOT_STEPS = 2
# Kills one after the other, and the step that is gone on from: that of the last whole snapshot.
SEQUENCES = (
    (("step:1",), 0),
    (("step:3",), 2),
    (("step:8",), 8),
    (("write:1",), 0),
    (("write:4",), 6),
    (("step:5", "write:2", "step:11"), 10),
)


class Network(nn.Module):
    """Two layers with dropout between them, and a buffer that follows what was measured."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)
        )
        # In none of the optimiser's groups, and never used: nobody may wait for its gradient.
        self.idle = nn.Linear(3, 3)
        self.register_buffer("follows", torch.zeros(()))

    def loss(self, tensors):
        x, y = tensors
        error = (self.layers(x)[:, 0] + self.follows - y).abs()
        return Loss(error.mean(), {"error": error.detach(), "large": error.detach() > 1.0})

    def after_step(self, measured):
        self.follows += 0.01 * (measured["large"].float().mean() - 0.5)
        return {"mae": float(measured["error"].mean())}


class Drawn:
    """Batches of random scans with noise, each drawn while the one before is worked on."""

    def __init__(self, x, y):
        self.x, self.y, self.random = x, y, np.random.default_rng(3)
        self.ahead = DrawnAhead(self.draw, self.random, STEPS)

    def __len__(self):
        return STEPS

    def draw(self):
        chosen = self.random.integers(SCANS, size=BATCH)
        return chosen, self.random.standard_normal((BATCH, FEATURES), np.float32)

    def __getitem__(self, step):
        chosen, noise = self.ahead.take(step)
        return Batch(
            (self.x[chosen] + 0.1 * torch.as_tensor(noise), self.y[chosen]),
            tuple(str(scan) for scan in chosen),
        )


class Watched:
    """Batches that note who asked for them, and kill the process when one of them is asked for."""

    def __init__(self, batches, last):
        self.batches, self.last, self.asked = batches, last, []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step):
        self.asked.append(step)
        if step == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.batches[step]


def die_while_writing(number: int) -> None:
    """Kill this process when it is about to put its n-th snapshot in place."""
    count = 0

    def hook(event: str, values: tuple) -> None:
        nonlocal count
        if event == "os.rename" and str(values[1]).endswith(".snapshot"):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def stage_of(kind: str, network: Network) -> tuple[Stage, OptimiserConfig]:
    """Return a stage and its settings; the data are always the same."""
    random = torch.Generator().manual_seed(1)
    x = torch.randn(SCANS, FEATURES, generator=random)
    y = x.square().sum(dim=1) - FEATURES
    names = tuple(str(scan) for scan in range(SCANS))
    drawn = Drawn(x, y)
    orders = [np.random.default_rng(step).permutation(SCANS)[:BATCH] for step in range(STEPS)]
    planned = [Batch((x[o], y[o]), tuple(names[scan] for scan in o)) for o in orders]
    # Seven: two processes of two at a time need three rounds, the last of them uneven.
    aside = Batch((x[:7] + 0.5, y[:7]), names[:7])
    stage = Stage(
        parameter_groups=[{"params": list(network.layers.parameters()), "weight_decay": 0.01}],
        batches=drawn if kind == "drawn" else planned,
        steps_per_epoch=3,
        loss=network.loss,
        after_step=network.after_step,
        describe=kind,
        draws=drawn.ahead if kind == "drawn" else None,
        validation=Validation(
            batch=aside,
            at_a_time=2,
            error=lambda net, tensors: net.loss(tensors).measured["error"],
            name="validation_mae",
        ),
    )
    config = OptimiserConfig(
        learning_rate=0.05,
        warmup_share=0.2,
        max_gradient_norm=1.0,
        ema_decay=0.5,
        accumulation=1 if kind == "drawn" else 3,
        patience=0 if kind == "drawn" else 3,
    )
    return stage, config


def train(kind: str, out: Path, snapshot: Path | None = None, kill: str = "") -> list[int]:
    """Train, and write what came of it; return the steps whose batches were asked for."""
    torch.set_num_threads(1)
    torch.manual_seed(5)
    # So that there is more than one snapshot in so few steps.
    ermoe_ba.training.loop.SNAPSHOT_STEPS = SNAPSHOT_STEPS
    network = Network(0.0 if kind == "exact" else 0.3)
    stage, config = stage_of(kind, network)
    event, _, number = kill.partition(":")
    watched = Watched(stage.batches, int(number) if event == "step" else None)
    if event == "write":
        die_while_writing(int(number))
    history = fit(network, replace(stage, batches=watched), config, snapshot=snapshot)
    processes = Processes()
    found = {f"weights.{name}": value for name, value in network.state_dict().items()}
    found |= {f"history.{name}": value for name, value in history.state_dict().items()}
    found["validation"] = errors(network, stage.validation, processes)
    if processes.is_main:
        save_file({name: value.contiguous() for name, value in found.items()}, out)
        # The stage leaves its snapshot to whoever keeps what came of it.
        if snapshot is not None:
            remove_file(snapshot)
    processes.accelerator.wait_for_everyone()
    PartialState().destroy_process_group()
    return watched.asked


def call(kind: str, out: Path, snapshot: Path, kill: str = "") -> int:
    """Train in a child; return its exit code, which is the first step that it made if it lived."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    os._exit(train(kind, out, snapshot, kill)[0])


def resume(kind: str, folder: Path) -> str:
    """Kill and go on at several points; return what was found."""
    snapshot, out = folder / "stage.snapshot", folder / "out.safetensors"
    assert call(kind, folder / "reference.safetensors", snapshot) == 0
    expected = (folder / "reference.safetensors").read_bytes()
    for kills, last in SEQUENCES:
        for kill in kills:
            assert call(kind, out, snapshot, kill) == -signal.SIGKILL, (kills, kill)
            assert not out.exists()
        assert call(kind, out, snapshot) == last, kills
        assert out.read_bytes() == expected, kills
        out.unlink()
        # Neither the snapshot nor what a killed writer left of one outlives the stage.
        assert [path.name for path in folder.iterdir()] == ["reference.safetensors"], kills
    return f"{kind}: killed {sum(len(k) for k, _ in SEQUENCES)} times; all went on to equal bytes"


if __name__ == "__main__":
    if sys.argv[1] == "resume":
        sys.stdout.write(f"{resume(sys.argv[2], Path(sys.argv[3]))}\n")
    else:
        train(sys.argv[1], Path(sys.argv[2]))
