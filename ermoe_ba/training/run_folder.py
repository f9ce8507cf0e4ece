"""The folder of a run: what its files are called, and what an earlier start left in it."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from ermoe_ba.checkpoint import save_tensors
from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json
from ermoe_ba.study import Study
from ermoe_ba.tables import read_tsv
from ermoe_ba.training.recipe import Recipe, RunConfig
from ermoe_ba.training.run_part import Part
from ermoe_ba.training.study_hash import data_hash
from ermoe_ba.training.trackers import Tracking

RECIPE = "recipe.json"
SPLITS = "splits.tsv"
SCANS = "scans.tsv"
UNUSABLE = "unusable.tsv"
PREDICTIONS = "predictions.tsv"


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files.

    Parameters
    ----------
    out : Path
        The folder.
    """

    out: Path

    def predictions(self, part: Part) -> Path:
        """Return the table of a part's ages; where it stands, the part is done.

        Parameters
        ----------
        part : Part
            Of the run.

        Returns
        -------
        Path
            Whether the file is there or not.
        """
        return self.out / f"{part.name}_{PREDICTIONS}"

    def member(self, part: Part, number: int) -> Path:
        """Return the weights of a part's member.

        Parameters
        ----------
        part : Part
            Of the run.
        number : int
            Of the member, from 0.

        Returns
        -------
        Path
            Whether the file is there or not.
        """
        return self.out / f"{part.name}_start-{number}.safetensors"

    def snapshot(self, part: Part, stage: str) -> Path:
        """Return where a stage of a part keeps its state, for a stopped run to go on with.

        Parameters
        ----------
        part : Part
            Of the run.
        stage : str
            Its name.

        Returns
        -------
        Path
            Whether the file is there or not.
        """
        return self.out / "kept" / f"{part.name}_{stage}_snapshot.safetensors"

    def history(self, part: Part, stage: str) -> Path:
        """Return the table of a stage's curve of training.

        Parameters
        ----------
        part : Part
            Of the run.
        stage : str
            Its name.

        Returns
        -------
        Path
            Whether the file is there or not.
        """
        return self.out / f"{part.name}_{stage}_history.tsv"

    def tracking(self, part: Part, stage: str, run: RunConfig) -> Tracking:
        """Return who is told the curve of a stage while it is trained.

        Parameters
        ----------
        part : Part
            Of the run.
        stage : str
            Its name.
        run : RunConfig
            Names the model and the trackers.

        Returns
        -------
        Tracking
            With the folder of the run's curves.
        """
        return Tracking(
            folder=self.out / "curves",
            experiment=run.name,
            run=f"{part.name}_{stage}",
            trackers=run.trackers,
        )

    def choice(self, part: Part) -> Path:
        """Return the file that tells what a part chose.

        Parameters
        ----------
        part : Part
            Of the run.

        Returns
        -------
        Path
            Whether the file is there or not.
        """
        return self.out / f"{part.name}_choice.json"

    @property
    def phantom(self) -> Path:
        """Return the folder of what was found of the simulated people that the run begins with."""
        return self.out / "phantom"

    def described(self, part: Part) -> Path:
        """Return what a part's stem makes of its scans.

        Parameters
        ----------
        part : Part
            Of the run.

        Returns
        -------
        Path
            Whether the file is there or not.
        """
        return self._kept_path(f"{part.name}_described")

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

    def kept(
        self, name: str, make: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Return what an earlier start of this run made under a name, or make and keep it now.

        Parameters
        ----------
        name : str
            Of the file in ``kept``, without its ending.
        make : callable
            Called where there is none.

        Returns
        -------
        dict of Tensor
            As read from the file, the first time too.

        Raises
        ------
        OSError
            If it cannot be written, for want of space for one; nothing is left behind then.
        """
        path = self._kept_path(name)
        if not path.is_file():
            save_tensors(path, make())
        return load_file(path)

    def _kept_path(self, name: str) -> Path:
        return self.out / "kept" / f"{name}.safetensors"


def read_run_table(path: Path) -> pd.DataFrame:
    """Read a table of a run; names stay text, be they 007 or NA, and so do hashes of digits.

    Parameters
    ----------
    path : Path
        ``scans.tsv``, ``splits.tsv`` or predictions of a run.

    Returns
    -------
    DataFrame
        One row as the file has it; numbers as numbers.
    """
    text = ("participant_id", "session_id", "scan", "content_hash", "voxel_hash")
    return read_tsv(path, text=text)
