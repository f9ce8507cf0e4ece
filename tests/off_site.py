"""A site, and a model of two folds that is off there: what tests of fine-tuning share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_study import write_raw

from ermoe_ba.checkpoint import save_member
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.inspection import UNUSABLE_COLUMNS
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model_card import ModelCard, save_card
from ermoe_ba.space import Volume
from ermoe_ba.study import StudyScan
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.fine_tune import FineTuning, TuningConfig

IDS = [f"{number:02}" for number in range(12)]


@dataclass
class Site:
    """Scans of a site, and a model of two folds that are both off by the same amount."""

    folder: Path
    model: Path
    scans: dict[str, PreparedScan]
    # What the one member of each fold says.
    by_fold: dict[str, list[float]]

    @property
    def base(self) -> dict[str, float]:
        """Ages of the model as a whole: the mean of its members."""
        return {i: float(np.mean(ages)) for i, ages in self.by_fold.items()}

    def tuning(self, ages: dict[str, float], **options: Any) -> FineTuning:
        rows = "".join(f"{i}\t{age}\n" for i, age in ages.items())
        table = self.folder / "participants.tsv"
        table.write_text(f"participant_id\tage\n{rows}", encoding="utf-8")
        options = {"config": TuningConfig(num_folds=3, min_participants=6), **options}
        out = self.folder / "tuned"
        return FineTuning(str(self.model), table, out, t1w="{participant_id}.nii.gz", **options)


@pytest.fixture
def site(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_member: Callable[..., ErmoeBrainAge],
    small_tokens: TokenGrid,
    small_brain: Volume,
    *,
    card: ModelCard,
) -> Site:
    model = tmp_path / "model"
    members = [make_member(seed) for seed in (1, 2)]
    for fold, member in enumerate(members):
        save_member(model / f"fold-{fold}_start-0.safetensors", member)
    save_card(model, replace(card, coverage=0.5, half_width=5.0, ages=(20.0, 80.0)))
    scans, by_fold = {}, {}
    for number, i in enumerate(IDS):
        random = np.random.default_rng(number)
        data = random.uniform(0.2, 1.3, small_brain.grid.shape) * small_brain.data
        scans[i] = PreparedScan(
            participant_id=i,
            t1w=small_brain.same_grid(data.astype(np.float32)),
            brain_mask=small_brain,
            labels=None,
        )
        with torch.no_grad():
            volume = torch.as_tensor(scans[i].t1w.data)[None]
            by_fold[i] = [float(m(volume).age_b) for m in members]
        write_raw(tmp_path / f"{i}.nii.gz", number)

    class FakeCohort:
        """Stands for `PreparedCohort`."""

        folder = tmp_path / "prepared"

        def __init__(self, *_: Any) -> None: ...

        def prepare_all(self, scans: Sequence[StudyScan], jobs: int) -> pd.DataFrame:
            return pd.DataFrame(columns=list(UNUSABLE_COLUMNS))

        def read(self, scan: StudyScan) -> PreparedScan:
            return site.scans[scan.name]

    module = "ermoe_ba.training.fine_tune"
    monkeypatch.setattr(f"{module}.PreparedCohort", FakeCohort)
    monkeypatch.setattr(f"{module}.Preprocessor", lambda _: None)
    monkeypatch.setattr("ermoe_ba.checkpoint.token_grid", lambda _: small_tokens)
    site = Site(tmp_path, model, scans, by_fold)
    return site
