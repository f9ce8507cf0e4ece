"""The folder of a run: what its files are called, and what an earlier start left in it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from ermoe_ba.checkpoint import save_tensors
from ermoe_ba.tables import PREDICTIONS, read_tsv
from ermoe_ba.training.claimed_folder import ClaimedFolder
from ermoe_ba.training.recipe import RunConfig
from ermoe_ba.training.run_part import Part
from ermoe_ba.training.trackers import Tracking

SPLITS = "splits.tsv"
SCANS = "scans.tsv"
UNUSABLE = "unusable.tsv"


@dataclass(frozen=True)
class RunFolder(ClaimedFolder):
    """Paths of a run's files.

    Parameters
    ----------
    out : Path
        The folder.
    """

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
