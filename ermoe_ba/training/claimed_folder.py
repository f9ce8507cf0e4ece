"""A folder that belongs to one run: which recipe and data it was begun with."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json
from ermoe_ba.study import Study
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
            If it holds a run of another recipe or other data.
        """
        digest = data_hash(study)
        if self._claimed() and not self.holds(recipe, digest):
            raise self._other()
        write_json(self.out / RECIPE, {"text": recipe.text, "data_hash": digest})
        return digest

    def holds(self, recipe: Recipe, digest: str) -> bool:
        """Tell whether the folder is that of a run of a recipe on data of a hash.

        Parameters
        ----------
        recipe : Recipe
            Compared by its text.
        digest : str
            From `data_hash`.

        Returns
        -------
        bool
            False also where the folder holds no run.
        """
        return self._claimed() == {"text": recipe.text, "data_hash": digest}

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
        text = self._claimed().get("text")
        if text is None:
            raise UsageError(f"{self.out}: a run must have a {RECIPE}; found none.")
        try:
            return from_plain(RunConfig, tomllib.loads(text)["run"])
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"{self.out / RECIPE}: the settings cannot be used: {error}."
            ) from error

    def _other(self) -> UsageError:
        return UsageError(
            f"{self.out} holds a run of another recipe or other data; choose another --out."
        )

    def _claimed(self) -> dict[str, str]:
        """Return the recipe and data hash of the run that the folder holds, where it does."""
        path = self.out / RECIPE
        if not path.is_file():
            return {}
        content: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return content
