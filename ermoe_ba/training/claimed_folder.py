"""A folder that belongs to one run: which recipe, data and other files it was begun with."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json
from ermoe_ba.study import Study
from ermoe_ba.training.other_inputs import other_inputs
from ermoe_ba.training.recipe import Recipe, RunConfig
from ermoe_ba.training.study_hash import data_hash

RECIPE = "recipe.json"


@dataclass(frozen=True)
class ClaimedFolder:
    """A folder, and whose run it holds, if any.

    Parameters
    ----------
    out : Path
        The folder; it need not exist.
    """

    out: Path

    def refuse_other(self, recipe: Recipe) -> None:
        """Refuse a folder that holds a run of another recipe: before anything is done in it.

        Parameters
        ----------
        recipe : Recipe
            Of the run to come; compared by its text.

        Raises
        ------
        UsageError
            If it does.
        """
        if self._claimed().get("text", recipe.text) != recipe.text:
            raise self._other()

    def claim(self, recipe: Recipe, study: Study) -> str:
        """Make the folder this run's, and return the hash of its data.

        Parameters
        ----------
        recipe : Recipe
            Of the run.
        study : Study
            What it is trained on.

        Returns
        -------
        str
            From `data_hash`.

        Raises
        ------
        UsageError
            If it holds a run of another recipe or other data, or as from `other_inputs`.
        """
        mark = _mark(recipe, study)
        if self._claimed() not in ({}, mark):
            raise self._other()
        write_json(self.out / RECIPE, mark)
        return str(mark["data_hash"])

    def holds(self, recipe: Recipe, study: Study) -> bool:
        """Tell whether the folder is that of a run of a recipe on a study.

        Parameters
        ----------
        recipe : Recipe
            Compared by its text, and by what lies in the files that it names.
        study : Study
            Compared by `data_hash`.

        Returns
        -------
        bool
            False also where the folder holds no run.

        Raises
        ------
        UsageError
            As from `other_inputs`.
        """
        return self._claimed() == _mark(recipe, study)

    def settings(self) -> RunConfig:
        """Return what the recipe of the folder's run says of it.

        Returns
        -------
        RunConfig
            As it was when the run began.

        Raises
        ------
        UsageError
            If the folder holds no run, or one whose settings this version does not know.
        """
        try:
            return from_plain(RunConfig, self.tables()["run"])
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"{self.out / RECIPE}: the settings cannot be used: {error}."
            ) from error

    def tables(self) -> dict[str, Any]:
        """Return the recipe of the folder's run, unchecked: this version need not know it all.

        Returns
        -------
        dict
            Its tables, as TOML gives them.

        Raises
        ------
        UsageError
            If the folder holds no run, or one whose recipe cannot be read.
        """
        path = self.out / RECIPE
        if not path.is_file():
            raise UsageError(f"{self.out}: a run must have a {RECIPE}; found none.")
        try:
            return tomllib.loads(self._claimed()["text"])
        except (KeyError, ValueError) as error:
            raise UsageError(f"{path}: the run's recipe cannot be read ({error}).") from error

    def _other(self) -> UsageError:
        return UsageError(
            f"{self.out} holds a run of another recipe or other data, or of a label table, stem or "
            "atlas that has changed since; choose another --out."
        )

    def _claimed(self) -> dict[str, Any]:
        """Return what the run is known by that the folder holds, where it does."""
        path = self.out / RECIPE
        if not path.is_file():
            return {}
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


def _mark(recipe: Recipe, study: Study) -> dict[str, Any]:
    """Return what a run is known by."""
    others = other_inputs(recipe, study.root)
    return {"text": recipe.text, "data_hash": data_hash(study), "other_inputs": others}
