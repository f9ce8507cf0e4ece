"""A recipe: every choice of a training run, read from one TOML file."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ermoe_ba.assets import atlas_root
from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import TISSUES, ModelConfig
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.training.age import AgeConfig
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
    num_starts : int
        Members of each fold: trained from the same stem, each with random numbers of its own.
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
    num_starts: int
    seed: int
    coverage: float
    t1w: str
    labels: str
    label_table: str
    data: str
    licence: str

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise ValueError(f"num_folds must be at least 2; found {self.num_folds}")
        if self.num_starts < 1:
            raise ValueError(f"num_starts must be at least 1; found {self.num_starts}")
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage must lie between 0 and 1; found {self.coverage}")
        for pattern in (self.t1w, self.labels):
            if "{participant_id}" not in pattern:
                raise ValueError(f"a path must hold {{participant_id}}; found {pattern!r}")

    def tissues(self) -> dict[int, str]:
        """Return the tissue of each label.

        Raises
        ------
        UsageError
            If the label table cannot be read, or names a tissue that the stem does not know.
        """
        path = atlas_root() / self.label_table
        try:
            table = pd.read_csv(path, sep="\t")
            tissues = {int(i): str(t) for i, t in zip(table["index"], table["tissue"], strict=True)}
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{path}: must be a table with index and tissue ({error}).") from error
        unknown = set(tissues.values()) - set(TISSUES)
        if unknown:
            raise UsageError(f"{path}: unknown tissues {sorted(unknown)}; known are {TISSUES}.")
        return tissues


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
        return from_plain(Recipe, {"preprocess": {}, **tomllib.loads(text), "text": text})
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the recipe cannot be used: {error}.") from error
