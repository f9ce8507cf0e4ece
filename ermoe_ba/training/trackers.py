"""Where the curves of training can be watched: TensorBoard, and MLflow where it is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker
from accelerate.utils import is_mlflow_available

from ermoe_ba.errors import UsageError

TRACKERS = ("tensorboard", "mlflow")


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Who is told the curves of one stage.

    Parameters
    ----------
    folder : Path
        TensorBoard's files go to ``folder/run``; look at all of them with
        ``tensorboard --logdir folder``.
    experiment : str
        MLflow's experiment; where its server or folder is, ``MLFLOW_TRACKING_URI`` says.
    run : str
        Name of the stage, such as ``fold-0_start-2``.
    trackers : tuple of str
        Names from `TRACKERS`; none writes nothing.

    Raises
    ------
    UsageError
        If a tracker is unknown, or its library is not installed.
    """

    folder: Path
    experiment: str
    run: str
    trackers: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        unknown = set(self.trackers) - set(TRACKERS)
        if unknown:
            raise UsageError(f"Unknown trackers {sorted(unknown)}; known are {list(TRACKERS)}.")
        if "mlflow" in self.trackers and not is_mlflow_available():
            raise UsageError(
                "The tracker mlflow needs its library: pip install 'ermoe_ba[mlflow]'."
            )

    def make(self, first_step: int) -> list[GeneralTracker]:
        """Return accelerate's trackers, not yet started.

        Parameters
        ----------
        first_step : int
            The first step that they will be told; TensorBoard hides what an earlier, stopped
            process wrote from there on.

        Returns
        -------
        list of GeneralTracker
            One for each name.
        """
        make: dict[str, Any] = {
            "tensorboard": lambda: TensorBoardTracker(self.run, self.folder, purge_step=first_step),
            "mlflow": lambda: MLflowTracker(experiment_name=self.experiment, run_name=self.run),
        }
        return [make[name]() for name in self.trackers]
