"""The worker that preprocesses."""

from dataclasses import dataclass
from typing import Any

from ermoe_ba.derivatives import read_derivative, remove_derivative, write_derivative
from ermoe_ba.errors import ScanError
from ermoe_ba.outputs import thumbnail
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor
from ermoe_ba.quality import assess, load_limits, load_reference, measure_figures
from ermoe_ba.t1w import content_hash
from ermoe_ba.workers.outcome import Outcome, Task
from ermoe_ba.workers.worker import Clock, Worker


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """What all scans of a preprocessing share; picklable.

    Parameters
    ----------
    config : PreprocessConfig
        Every number of it.
    device : {"cpu", "cuda", "mps"}
        Where to compute.
    overwrite : bool
        Make derivatives again that are whole and of these very scans.
    debug : bool
        Show tracebacks.
    """

    config: PreprocessConfig
    device: str
    overwrite: bool
    debug: bool

    def start(self) -> "DerivativeMaker":
        """Load what all scans share.

        Returns
        -------
        DerivativeMaker
        """
        return DerivativeMaker(self)


class DerivativeMaker(Worker):
    """Preprocesses one scan after the other into a BIDS derivative.

    Parameters
    ----------
    settings : PreprocessSettings
        What they share.
    """

    def __init__(self, settings: PreprocessSettings) -> None:
        super().__init__(debug=settings.debug)
        self.settings = settings
        self.preprocessor = Preprocessor(settings.config, settings.device)
        self.reference = load_reference()

    def traced(self) -> dict[str, Any]:
        """Return the identity of the preprocessing.

        Returns
        -------
        dict of str to str
            ``preprocessing_id``.
        """
        return {"preprocessing_id": self.settings.config.identity()}

    def work(self, task: Task, row: dict[str, Any], clock: Clock) -> Outcome:
        """Preprocess a scan and write its derivative, unless that was done before.

        Parameters
        ----------
        task : Task
            The scan, and where its derivative goes.
        row : dict
            What is known of it, by columns of ``predictions.tsv``.
        clock : Clock
            Told of each stage.

        Returns
        -------
        Outcome
            Of status ``ok``.

        Raises
        ------
        ScanError
            If the scan cannot be used.
        OSError
            If the derivative cannot be written.
        """
        place, path = task.derivative, task.scan.path
        assert place is not None
        try:
            source = content_hash(path)
        except ScanError:
            remove_derivative(place)
            raise
        wanted = self.settings.config.identity()
        done = None if self.settings.overwrite else read_derivative(place, path, wanted, source)
        if done is None:
            remove_derivative(place)
            state = self.preprocessor(path, clock)
            clock("WriteDerivative")
            write_derivative(place, state, self.preprocessor, source)
            clock("")
        else:
            state = done
        figures = state.figures | measure_figures(state.image, state.mask, self.reference)
        # What predicting will refuse is preprocessed all the same: --force may be meant.
        verdict = assess(load_limits().limits, figures, state.flags)
        row = {
            **row,
            "status": "ok",
            "qc_flags": ";".join(verdict.flags) or None,
            "seconds": clock.seconds,
        }
        return Outcome(
            row=row,
            written=place.files,
            kept=done is not None,
            stages=clock.stages,
            thumbnail=thumbnail(state.image, state.mask),
        )
