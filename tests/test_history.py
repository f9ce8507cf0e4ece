"""What a stage tells of itself: its curve, its cost, the screen and the trackers."""

from dataclasses import replace
from pathlib import Path

import pytest
from line_network import OPTIMISER, Line

from ermoe_ba.errors import UsageError
from ermoe_ba.training.history import Cost, History
from ermoe_ba.training.loop import fit
from ermoe_ba.training.trackers import Tracking

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_a_history_is_a_table_with_gaps() -> None:
    """A value that comes once an epoch stands in its step's row; means are over its epoch."""
    history = History()
    history.add(1, 4.0, {"mae": 5.0})
    history.add(1, 2.0, {"mae": 3.0})
    history.amend({"validation_mae": 7.0})
    history.add(2, 1.0, {"mae": 0.5, "late": 9.0})
    table = history.table()
    assert table["epoch"].tolist() == [1, 1, 2]
    assert table["validation_mae"].isna().tolist() == [True, False, True]
    assert table["late"].isna().tolist() == [True, True, False]
    assert history.epoch_means(1) == {"loss": 3.0, "mae": 4.0, "validation_mae": 7.0}
    again = History()
    again.load_state_dict(history.state_dict())
    assert again.table().equals(table)


def test_costs_add_up() -> None:
    """30 scans in 4 s and 10 in 1 s: 8 a second; of 5 s, reading took 1 and making 2."""
    costs = [
        Cost(scans=30, seconds=4.0, reading_seconds=0.9, making_seconds=1.5, peak_memory_mb=700.0),
        Cost(scans=10, seconds=1.0, reading_seconds=0.1, making_seconds=0.5, peak_memory_mb=1500.0),
    ]
    total = sum(costs[1:], costs[0])
    assert total.scans_per_second == 8.0
    assert (total.reading_share, total.making_share) == pytest.approx((0.2, 0.4))
    assert str(total) == (
        "8.0 scans a second, 20.0% of the time in reading files, 40.0% in changing scans and "
        "making batches, peak memory 1,500 MB"
    )
    # What is no step has no pace.
    making = Cost(seconds=2.0, making_seconds=2.0, peak_memory_mb=1.0)
    assert str(making).startswith("2.0 s, 0.0% of the time in reading files, 100.0% in changing")
    nothing = Cost(peak_memory_mb=1.0)
    shares = (nothing.scans_per_second, nothing.reading_share, nothing.making_share)
    assert shares == (0.0, 0.0, 0.0)


def test_a_stage_counts_time_scans_and_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clock that ticks once at each look: at the start, twice a batch, at the end.

    Two steps: six looks, five ticks from first to last, of which each batch took one.
    """
    ticks = iter(range(100))
    monkeypatch.setattr("ermoe_ba.training.progress.time.perf_counter", lambda: next(ticks))
    model = Line()
    history = fit(model, model.stage(2), OPTIMISER)
    assert (history.cost.seconds, history.cost.making_seconds) == (5.0, 2.0)
    # Nothing was read meanwhile.
    assert history.cost.reading_seconds == 0.0
    # Four scans a batch.
    assert history.cost.scans == 8
    assert 50 < history.cost.peak_memory_mb < 1e5
    assert f"line: {history.cost}" in capsys.readouterr().err


def test_the_screen_names_epoch_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    """The first losses are 10 and about 10: shown with three digits."""
    model = Line()
    stage = model.stage(4, after_step=lambda found: {"mae": float(found["error"].mean())})
    fit(model, stage, replace(OPTIMISER, learning_rate=1e-6))
    shown = capsys.readouterr().err
    assert "epoch 2/2, loss 10, mae 10" in shown
    assert "line: 100%" in shown


def test_tensorboard_is_told_each_epoch(tmp_path: Path) -> None:
    """Two epochs of the loss, at the number of steps made, in a folder of the run's name."""
    from tensorboardX.proto.event_pb2 import Event

    model = Line()
    tracking = Tracking(folder=tmp_path, experiment="tiny", run="fold-0_start-1")
    history = fit(model, model.stage(4), OPTIMISER, tracking=tracking)
    ((path),) = [p for p in (tmp_path / "fold-0_start-1").iterdir() if p.is_file()]
    told, data, place = [], path.read_bytes(), 0
    # TFRecord: length (8 bytes), its check (4), the event, its check (4).
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + length])
        told += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        place += length + 16
    means = [history.epoch_means(epoch)["loss"] for epoch in (1, 2)]
    assert [(tag, step) for tag, step, _ in told] == [("line/loss", 2), ("line/loss", 4)]
    assert [value for _, _, value in told] == pytest.approx(means)


@pytest.mark.parametrize(
    ("trackers", "says"), [(("wandb",), "known are"), (("mlflow",), r"ermoe_ba\[mlflow\]")]
)
def test_a_tracker_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trackers: tuple[str, ...], says: str
) -> None:
    monkeypatch.setattr("ermoe_ba.training.trackers.is_mlflow_available", lambda: False)
    with pytest.raises(UsageError, match=says):
        Tracking(folder=tmp_path, experiment="tiny", run="a", trackers=trackers)
