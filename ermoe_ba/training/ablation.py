"""An ablation in its folder: every row trained on the same folds, and one table of them all."""

import json
import os
import platform
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json, write_text
from ermoe_ba.software import software
from ermoe_ba.tables import write_table
from ermoe_ba.training.ablation_fold import AblationFold
from ermoe_ba.training.ablation_network import row_tokens, train_unit
from ermoe_ba.training.ablation_recipe import AblationRecipe
from ermoe_ba.training.ablation_table import ablation_table, as_markdown
from ermoe_ba.training.ablation_unit import Unit, load_unit, save_unit
from ermoe_ba.training.leftovers import sweep_below


class Ablation:
    """A comparison that goes on where it stopped, and whose folds several processes can share.

    Parameters
    ----------
    recipe : AblationRecipe
        All choices.
    participants_path : Path
        The participants table; only rows with an age take part.
    out : Path
        Folder of the results.
    run : Path, optional
        Folder of `cross-validate` whose stems and descriptions are taken; without it,
        ``out / "stems"``, where they are made.
    resume : bool
        Whether to go on with what `out` holds.

    Raises
    ------
    UsageError
        If `out` holds results and is not to be gone on with, or holds those of another recipe; as
        from `row_tokens`.
    """

    def __init__(
        self,
        recipe: AblationRecipe,
        participants_path: Path,
        out: Path,
        *,
        run: Path | None = None,
        resume: bool = False,
    ) -> None:
        self.recipe, self.participants_path, self.out = recipe, participants_path, out
        self.stems = out / "stems" if run is None else run
        content = {"text": recipe.text, "base": recipe.base.text}
        path = out / "recipe.json"
        if path.is_file():
            if not resume:
                raise UsageError(f"{out} holds an ablation; add --resume or choose another --out.")
            if json.loads(path.read_text(encoding="utf-8")) != content:
                raise UsageError(
                    f"{out} holds an ablation of another recipe; choose another --out."
                )
        # Labels that no atlas has must not wait for their row's turn.
        for row in recipe.row:
            if recipe.model_of(row).atlas_regions:
                row_tokens(recipe, row)
        write_json(path, content)
        # A run given besides is its own, and sweeps itself.
        sweep_below(out)

    def run(self, only_fold: int | None = None) -> pd.DataFrame | None:
        """Train what is missing and, once all is there, write the table.

        Parameters
        ----------
        only_fold : int, optional
            Train this fold and no other.

        Returns
        -------
        DataFrame or None
            The table, also in ``table.tsv`` and ``table.md``; None while folds are missing.
        """
        config = self.recipe.ablation
        if only_fold is not None and only_fold not in config.folds:
            raise UsageError(f"--fold must be one of {config.folds}; found {only_fold}.")
        for number in config.folds if only_fold is None else [only_fold]:
            missing = [
                (row, seed)
                for seed in config.seeds
                for row in self.recipe.row
                if not self._path(row.name, seed, number).is_file()
            ]
            if not missing:
                continue
            fold = AblationFold(
                self.recipe.base,
                self.participants_path,
                self.stems,
                number,
                described=self.out / "described",
            )
            for row, seed in tqdm(missing, desc=f"fold {number}", unit="network"):
                unit = train_unit(self.recipe, row, fold, seed)
                save_unit(self._path(row.name, seed, number), unit)
        return self._tabulate()

    def _path(self, row: str, seed: int, fold: int) -> Path:
        return self.out / "networks" / f"row-{row}_seed-{seed}_fold-{fold}.json"

    def _check_alike(self, units: dict[str, Unit]) -> None:
        """Refuse networks of one fold that saw other people, or saw them through another stem."""
        (first, whole), *others = units.items()
        for name, unit in others:
            for what, here, there in (
                ("stem", whole.stem, unit.stem),
                ("people", whole.participant_id, unit.participant_id),
                ("ages", whole.chronological_age, unit.chronological_age),
            ):
                if here != there:
                    raise UsageError(
                        f"{self.out / 'networks'}: all networks of a fold must have the same "
                        f"{what}; {first} and {name} have not. Remove those of another --run or "
                        "--participants, and go on with --resume."
                    )

    def _tabulate(self) -> pd.DataFrame | None:
        config = self.recipe.ablation
        paths = {
            (row.name, seed, fold): self._path(row.name, seed, fold)
            for row in self.recipe.row
            for seed in config.seeds
            for fold in config.folds
        }
        if not all(path.is_file() for path in paths.values()):
            return None
        units = {key: load_unit(path) for key, path in paths.items()}
        for fold in config.folds:
            self._check_alike({paths[key].name: units[key] for key in units if key[2] == fold})
        table = ablation_table(self.recipe, units)
        write_table(self.out / "table.tsv", table)
        scans = sum(
            len(units[self.recipe.row[0].name, config.seeds[0], fold].participant_id)
            for fold in config.folds
        )
        commits = sorted({unit.commit for unit in units.values()})
        head = (
            f"{scans} scans, folds {', '.join(map(str, config.folds))}, "
            f"seeds {', '.join(map(str, config.seeds))}; reference: {config.reference}; "
            f"intervals: {config.confidence:.0%}, {config.resamples:,} resamples of participants.\n"
            f"ermoe_ba {software()['ermoe_ba']}, networks of commit {', '.join(commits)}, "
            f"torch {torch.__version__}, "
            f"{platform.machine()}, {os.cpu_count()} cores, threads: {torch.get_num_threads()}.\n\n"
        )
        write_text(self.out / "table.md", head + as_markdown(table))
        return table
