"""Runs that were stopped: they go on to equal bytes and make no step again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_study import BEFORE, TinyStudy, ages, make_scan, study, with_stages

from ermoe_ba.checkpoint import save_member, save_tensors
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.training.batch import Batch, Batches
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.history import History
from ermoe_ba.training.pretrain import pretrain
from ermoe_ba.training.pretrain_config import (
    NO_STAGES,
    MaskedStage,
    PretrainConfig,
)
from ermoe_ba.training.progress import Progress

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["ages", "make_scan", "study"]


def test_a_run_stopped_between_its_stages_goes_on_to_equal_bytes(
    study: TinyStudy,
    ages: dict[str, float],
    make_scan: Callable[[str, float], PreparedScan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped before the age, and once before a stage: what was learnt is not learnt again."""
    config = replace(with_stages(study, make_scan), volumes=None)
    study.recipe = replace(
        study.recipe, pretrain=config, run=replace(study.recipe.run, num_starts=1)
    )
    weights = "fold-0_start-0.safetensors"
    straight = study.run("straight", ages, 0)
    out = study.folder / "stopped"
    out.mkdir()
    (out / "splits.tsv").write_bytes((straight / "splits.tsv").read_bytes())
    stopped = CrossValidation(study.recipe, study.write(ages), out)
    learnt: list[str] = []

    def learn(network: ErmoeBrainAge, name: str, *rest: Any, **options: Any) -> History:
        learnt.append(name)
        if learnt == ["phantom", "masked"]:
            raise KeyboardInterrupt
        return pretrain(network, name, *rest, **options)

    def stop(*_: Any, **__: Any) -> History:
        raise KeyboardInterrupt

    monkeypatch.setattr("ermoe_ba.training.part.pretrain", learn)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(0)
    with monkeypatch.context() as patch:
        patch.setattr("ermoe_ba.training.part.train_age", stop)
        with pytest.raises(KeyboardInterrupt):
            stopped.run(0)
    assert learnt == ["phantom", "masked", "masked"]
    stopped.run(0)
    assert learnt == ["phantom", "masked", "masked"]
    assert (out / weights).read_bytes() == (straight / weights).read_bytes()
    # A run without the stages is another.
    study.recipe = replace(study.recipe, pretrain=NO_STAGES, text="at once")
    assert (study.run("once", ages, 0) / weights).read_bytes() != (out / weights).read_bytes()


# What is written last of a stage, and by whom.
@pytest.mark.parametrize(
    ("writer", "name"),
    [
        ("run_folder.save_tensors", "fold-0_stem"),
        ("run_folder.save_tensors", "fold-0_start-0_masked"),
        ("part.save_member", "fold-0_start-0"),
    ],
)
def test_a_run_stopped_before_it_wrote_a_result_makes_no_step_again(
    study: TinyStudy,
    ages: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    name: str,
) -> None:
    """With a snapshot after each step, all steps are made by then; they are made once."""
    monkeypatch.setattr("ermoe_ba.training.loop.SNAPSHOT_STEPS", 1)
    study.recipe = replace(
        study.recipe,
        pretrain=PretrainConfig(masked=MaskedStage(share=0.5, **BEFORE)),
        run=replace(study.recipe.run, num_starts=1),
    )
    steps: list[str] = []
    load = Progress.load

    def counted(progress: Progress, batches: Batches, step: int) -> Batch:
        steps.append(progress.describe)
        return load(progress, batches, step)

    monkeypatch.setattr("ermoe_ba.training.loop.Progress.load", counted)
    straight = study.run("straight", ages, 0)
    made, steps[:] = list(steps), []
    out = study.folder / "stopped"
    out.mkdir()
    (out / "splits.tsv").write_bytes((straight / "splits.tsv").read_bytes())
    run = CrossValidation(study.recipe, study.write(ages), out)

    def stop(path: Path, content: Any) -> None:
        if path.name == f"{name}.safetensors":
            raise KeyboardInterrupt
        (save_member if writer.startswith("part") else save_tensors)(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(f"ermoe_ba.training.{writer}", stop)
        with pytest.raises(KeyboardInterrupt):
            run.run(0)
    run.run(0)
    assert steps == made
    weights = "fold-0_start-0.safetensors"
    assert (out / weights).read_bytes() == (straight / weights).read_bytes()
    assert not list(out.rglob("*snapshot*"))
