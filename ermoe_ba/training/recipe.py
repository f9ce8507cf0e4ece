"""A recipe: every choice of a training run, read from one TOML file."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ermoe_ba.assets import atlas_root
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.training.age import AgeConfig
from ermoe_ba.training.loop import OptimiserConfig
from ermoe_ba.training.tissue import TissueConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained on what.

    Parameters
    ----------
    name : str
        Name of the model.
    num_folds, seed : int
        Folds of the cross-validation, and the seed of everything random.
    coverage : float
        Of the prediction interval.
    t1w, labels : str
        Paths of a participant's scan and label map, relative to the participants table, with
        ``{participant_id}`` in them.
    label_table : str
        Table with the columns ``index`` and ``tissue``, relative to the atlas folder.
    data, licence : str
        What the data are, and the terms on which weights made from them may be passed on.
    """

    name: str
    num_folds: int
    seed: int
    coverage: float
    t1w: str
    labels: str
    label_table: str
    data: str
    licence: str

    def tissues(self) -> dict[int, str]:
        """Return the tissue of each label."""
        table = pd.read_csv(atlas_root() / self.label_table, sep="\t")
        return {
            int(index): str(tissue)
            for index, tissue in zip(table["index"], table["tissue"], strict=True)
        }


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a run, and the text they were read from."""

    run: RunConfig
    preprocess: PreprocessConfig
    model: ModelConfig
    tissue: TissueConfig
    age: AgeConfig
    text: str


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path : Path
        TOML with the tables ``run``, ``model``, ``tissue``, ``age`` (each of the last two with an
        ``optimiser``), and if need be ``preprocess``.

    Returns
    -------
    Recipe
        Checked.

    Raises
    ------
    UsageError
        If it cannot be read, or a setting is unknown, missing or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
        unknown = set(content) - {"run", "preprocess", "model", "tissue", "age"}
        if unknown:
            raise ValueError(f"unknown tables {sorted(unknown)}")
        model: dict[str, Any] = {**content["model"], "regions": tuple(content["model"]["regions"])}
        return Recipe(
            run=RunConfig(**content["run"]),
            preprocess=PreprocessConfig.from_plain(content.get("preprocess", {})),
            model=ModelConfig(**model),
            tissue=TissueConfig(**_with_optimiser(content["tissue"])),
            age=AgeConfig(**_with_optimiser(content["age"])),
            text=text,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: the recipe cannot be used: {error}.") from error


def _with_optimiser(table: dict[str, Any]) -> dict[str, Any]:
    return {**table, "optimiser": OptimiserConfig(**table["optimiser"])}
