"""Cross-validated training: one member a fold, tested on the scans it never saw."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from ermoe_ba import __version__
from ermoe_ba.checkpoint import (
    ModelCard,
    load_member,
    save_card,
    save_member,
    token_grid,
)
from ermoe_ba.cohort import Participants, read_participants
from ermoe_ba.dataset import PreparedCohort, PreparedScan
from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.intervals import conformal_half_width
from ermoe_ba.io import write_json, write_whole
from ermoe_ba.metrics import age_metrics, mae_by_group
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.stem import VoxelStem
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.splits import split_folds
from ermoe_ba.tables import write_table
from ermoe_ba.training.age import scan_variants, train_age
from ermoe_ba.training.matching import matched_order
from ermoe_ba.training.probe import Probe, probe_routing
from ermoe_ba.training.recipe import Recipe
from ermoe_ba.training.tissue import train_stem


class CrossValidation:
    """A run in its folder: prepared scans, splits, members, out-of-fold predictions.

    Whatever stands in the folder already is not made again, so a run that was stopped goes on, and
    several processes can share the folds.

    Parameters
    ----------
    recipe : Recipe
        All choices.
    participants_path : Path
        The participants table; only rows with an age take part.
    out : Path
        The run's folder.
    """

    def __init__(self, recipe: Recipe, participants_path: Path, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.root = participants_path.parent
        self.participants: Participants = read_participants(participants_path).labelled
        self.tokens = token_grid(recipe.model)
        self.prepared = PreparedCohort(out / "prepared", Preprocessor(recipe.preprocess))

    def run(self, only_fold: int | None = None) -> dict[str, Any] | None:
        """Train the folds and, once all are there, assemble the ensemble.

        Parameters
        ----------
        only_fold : int, optional
            Train this fold and no other.

        Returns
        -------
        dict or None
            Out-of-fold metrics; None while folds are missing.
        """
        num_folds = self.recipe.run.num_folds
        if only_fold is not None and not 0 <= only_fold < num_folds:
            raise UsageError(f"--fold must lie between 0 and {num_folds - 1}; found {only_fold}.")
        # Read before the hours of work that need them.
        tissues = self.recipe.run.tissues()
        self._keep_recipe()
        folds = self._splits()
        scans = self._scans()
        for fold in range(num_folds) if only_fold is None else [only_fold]:
            if not self._fold_table(fold).is_file():
                self._train_fold(fold, folds, scans, tissues)
        if all(self._fold_table(fold).is_file() for fold in range(num_folds)):
            return self._assemble(scans)
        return None

    def _fold_table(self, fold: int) -> Path:
        return self.out / f"fold-{fold}_predictions.tsv"

    def _member(self, fold: int, start: int) -> Path:
        return self.out / f"fold-{fold}_start-{start}.safetensors"

    def _keep_recipe(self) -> None:
        path = self.out / "recipe.json"
        content = {"text": self.recipe.text, "data_hash": self._data_hash()}
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != content:
            raise UsageError(
                f"{self.out} holds a run of another recipe or other data; choose another --out."
            )
        write_json(path, content)

    def _data_hash(self) -> str:
        digest = hashlib.sha256()
        for participant_id in sorted(self.participants.table.index):
            digest.update(f"{participant_id} {self.participants.age_of(participant_id)}".encode())
            for pattern in (self.recipe.run.t1w, self.recipe.run.labels):
                path = self.root / pattern.format(participant_id=participant_id)
                if not path.is_file():
                    raise UsageError(f"{path}: every participant with an age needs this file.")
                digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def _splits(self) -> pd.Series:
        """Return the fold of each participant; made once, then read."""
        path = self.out / "splits.tsv"
        if not path.is_file():
            run = self.recipe.run
            write_table(path, split_folds(self.participants, run.num_folds, run.seed).reset_index())
        table = read_run_table(path)
        if sorted(table["participant_id"]) != sorted(self.participants.table.index):
            raise UsageError(f"{path}: must give each participant with an age one fold.")
        return table.set_index("participant_id")["fold"]

    def _scans(self) -> list[PreparedScan]:
        run = self.recipe.run
        ids = list(self.participants.table.index)
        for participant_id in tqdm(ids, desc="prepare", unit="scan", mininterval=2.0):
            self.prepared.prepare(
                participant_id,
                self.root / run.t1w.format(participant_id=participant_id),
                self.root / run.labels.format(participant_id=participant_id),
            )
        return [self.prepared.read(participant_id) for participant_id in ids]

    def keep_described(self, fold: int) -> None:
        """Train and keep the stem of a fold and what it describes, and leave the age for others.

        Parameters
        ----------
        fold : int
            Which; what stands in the folder already is not made again.
        """
        tissues = self.recipe.run.tissues()
        self._keep_recipe()
        train, test = self._sides(fold, self._splits(), self._scans())
        self._describe_fold(fold, train, test, tissues)

    def _sides(
        self, fold: int, folds: pd.Series, scans: list[PreparedScan]
    ) -> tuple[list[PreparedScan], list[PreparedScan]]:
        """Return a fold's training and test scans."""
        train = [scan for scan in scans if folds[scan.participant_id] != fold]
        test = [scan for scan in scans if folds[scan.participant_id] == fold]
        if {s.participant_id for s in train} & {s.participant_id for s in test}:
            raise ErmoeError(f"Fold {fold}: a participant stands on both sides of the split.")
        return train, test

    def _describe_fold(
        self,
        fold: int,
        train: list[PreparedScan],
        test: list[PreparedScan],
        tissues: dict[int, str],
    ) -> tuple[VoxelStem, dict[str, torch.Tensor]]:
        """Return the fold's trained stem, and what it makes of training and test scans."""
        recipe = self.recipe
        seed = recipe.run.seed + fold
        torch.manual_seed(seed)
        first = ErmoeBrainAge(recipe.model, self.tokens)

        def stem() -> dict[str, torch.Tensor]:
            train_stem(first.stem, train, tissues, recipe.tissue, seed)
            return first.stem.state_dict()

        def described() -> dict[str, torch.Tensor]:
            variants = recipe.age.num_variants
            return {
                "train": scan_variants(first.describe, train, variants, seed),
                "test": scan_variants(first.describe, test, 0, seed),
            }

        first.stem.load_state_dict(self._kept(f"fold-{fold}_stem", stem))
        return first.stem, self._kept(f"fold-{fold}_described", described)

    def _train_fold(
        self, fold: int, folds: pd.Series, scans: list[PreparedScan], tissues: dict[int, str]
    ) -> None:
        recipe = self.recipe
        train, test = self._sides(fold, folds, scans)
        stem, seen = self._describe_fold(fold, train, test, tissues)
        predicted = []
        for number in range(recipe.run.num_starts):
            # No seed serves twice: folds count up by one.
            start = recipe.run.seed + fold + number * recipe.run.num_folds
            torch.manual_seed(start)
            member = ErmoeBrainAge(recipe.model, self.tokens)
            member.stem.load_state_dict(stem.state_dict())
            train_age(member, seen["train"], self._ages(train), recipe.age, start)
            with torch.no_grad():
                output = member.read_age(seen["test"][:, 0].float())
            predicted.append(output.age_b.numpy().astype(float))
            save_member(self._member(fold, number), member)
        # Last: where this table stands, the fold is done.
        write_table(
            self._fold_table(fold),
            pd.DataFrame(
                {
                    "participant_id": [scan.participant_id for scan in test],
                    "fold": fold,
                    "chronological_age": self._ages(test),
                    "predicted_age": np.mean(predicted, axis=0),
                }
            ),
        )

    def _kept(
        self, name: str, make: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Return what an earlier start of this run made under a name, or make and keep it now."""
        path = self.out / "kept" / f"{name}.safetensors"
        if not path.is_file():
            made = {key: value.contiguous() for key, value in make().items()}
            write_whole(path, lambda partial: save_file(made, partial))
        return load_file(path)

    def _ages(self, scans: list[PreparedScan]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        ages = self.participants.table["age"]
        return np.array([float(ages.loc[scan.participant_id]) for scan in scans])

    def _assemble(self, scans: list[PreparedScan]) -> dict[str, Any]:
        """Match the members' experts, and write predictions, metrics and the model's card."""
        recipe, num_folds = self.recipe, self.recipe.run.num_folds
        self._match_experts(scans)
        tables = [read_run_table(self._fold_table(f)) for f in range(num_folds)]
        table = pd.concat(tables, ignore_index=True)
        table["brain_age_gap"] = table["predicted_age"] - table["chronological_age"]
        write_table(self.out / "predictions.tsv", table)
        ages = table["chronological_age"].to_numpy()
        predictions = table["predicted_age"].to_numpy()
        metrics: dict[str, Any] = {**age_metrics(ages, predictions), **mae_by_group(table)}
        probes = [self._probe(fold, table) for fold, table in enumerate(tables)]
        for name in probes[0]:
            metrics[f"probe_{name}"] = np.mean([p[name] for p in probes], axis=0).tolist()
        write_json(self.out / "metrics.json", metrics)
        save_card(
            self.out,
            ModelCard(
                name=recipe.run.name,
                model=recipe.model,
                preprocess=recipe.preprocess,
                preprocessing_id=recipe.preprocess.identity(),
                ages=tuple(ages.tolist()),
                predictions=tuple(np.round(predictions, 3).tolist()),
                coverage=recipe.run.coverage,
                half_width=conformal_half_width(predictions - ages, recipe.run.coverage),
                metrics=metrics,
                provenance={
                    "data": recipe.run.data,
                    "licence": recipe.run.licence,
                    "data_hash": self._data_hash(),
                    "seed": recipe.run.seed,
                    "ermoe_ba": __version__,
                    "torch": torch.__version__,
                    "tissue": asdict(recipe.tissue),
                    "age": asdict(recipe.age),
                },
            ),
        )
        return metrics

    def _probe(self, fold: int, table: pd.DataFrame) -> Probe:
        """Probe a fold's members together on the scans they were not trained on."""
        described = load_file(self.out / "kept" / f"fold-{fold}_described.safetensors")["test"]
        paths = [self._member(fold, number) for number in range(self.recipe.run.num_starts)]
        members = [load_member(path, self.recipe.model, self.tokens) for path in paths]
        ages = torch.tensor(table["chronological_age"].tolist(), dtype=torch.float32)
        scans = [described[:, 0].float()] * len(members)
        return probe_routing(members, scans, ages, self.recipe.run.seed + fold)

    @torch.no_grad()
    def _match_experts(self, scans: list[PreparedScan]) -> None:
        """Rename each member's free experts after those of the first that route alike."""
        reference = None
        # Thirty scans settle a mean over tokens; all would take minutes.
        some = scans[:: max(1, len(scans) // 30)]
        run = self.recipe.run
        for fold in range(run.num_folds):
            described = None
            for number in range(run.num_starts):
                path = self._member(fold, number)
                member = load_member(path, self.recipe.model, self.tokens)
                if described is None:
                    # The members of a fold share their stem.
                    described = scan_variants(member.describe, some, 0, 0)[:, 0].float()
                weights = member.read_age(described).routing.weights_bte.mean(dim=0).numpy()
                if reference is None:
                    reference = weights
                    continue
                order = matched_order(reference, weights, len(self.recipe.model.regions))
                member.permute_experts(torch.tensor(order))
                save_member(path, member)


def read_run_table(path: Path) -> pd.DataFrame:
    """Read a table of this run; participants keep their names, be they 007 or NA."""
    return pd.read_csv(path, sep="\t", dtype={"participant_id": str}, keep_default_na=False)
