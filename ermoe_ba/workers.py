"""What a worker does with one scan, to predict or preprocess it; its faults stay its own."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import torch

from ermoe_ba.atlas import load_atlas
from ermoe_ba.checkpoint import load_ensemble
from ermoe_ba.cohort import Participants
from ermoe_ba.derivatives import Derivative, read_derivative, remove_derivative, write_derivative
from ermoe_ba.errors import ScanError, printable
from ermoe_ba.io import content_hash
from ermoe_ba.naming import ScanName
from ermoe_ba.outputs import (
    ScanResult,
    finished_row,
    provenance,
    remove_scan,
    scan_files,
    write_scan,
)
from ermoe_ba.predict import map_prediction, predict_age
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor, ScanState

Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One scan, and where what is made of it goes.

    Parameters
    ----------
    scan : ScanName
        The scan.
    folder : Path
        Of its results.
    derivative : Derivative or None
        Where its preprocessed form lies, or shall lie.
    """

    scan: ScanName
    folder: Path
    derivative: Derivative | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one scan.

    Parameters
    ----------
    row : dict
        Its row of ``predictions.tsv``; of a preprocessed scan, the columns that apply.
    written : tuple of Path
        Its files.
    kept : bool
        Whether the work had been done before, by an earlier run.
    stages : dict
        Seconds by stage.
    """

    row: dict[str, Any]
    written: tuple[Path, ...] = ()
    kept: bool = False
    stages: dict[str, float] = field(default_factory=dict)


class _Clock:
    """Seconds by stage, of which each ends when the next is announced."""

    def __init__(self, announce: Announce | None) -> None:
        self.began = self._last = time.perf_counter()
        self.stages: dict[str, float] = {}
        self._stage, self._announce = "Check", announce

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[self._stage] = self.stages.get(self._stage, 0.0) + now - self._last
        self._stage, self._last = stage, now
        if self._announce:
            self._announce(stage)

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self.began, 2)


def failure(row: dict[str, Any], message: str, seconds: float | None = None) -> Outcome:
    """Return the outcome of a scan that has none but a reason, which is brought to one line."""
    line = printable(" ".join(message.split()))
    return Outcome(row={**row, "status": "failed", "message": line, "seconds": seconds})


def lost(task: Task) -> Outcome:
    """Return the outcome of a scan whose worker process was killed or crashed."""
    return failure(
        known_of(task.scan),
        f"{task.scan.path}: its process must live to the end; found that it was killed or crashed. "
        "Most often memory ran out: give fewer --jobs.",
    )


def known_of(scan: ScanName) -> dict[str, Any]:
    """Return what a row holds of a scan before any work."""
    return {
        "participant_id": printable(scan.participant_id),
        "session_id": None if scan.session_id is None else printable(scan.session_id),
        "input": printable(str(scan.path)),
    }


def _attempt(
    task: Task, row: dict[str, Any], clock: _Clock, work: Callable[[], Outcome], *, debug: bool
) -> Outcome:
    try:
        return work()
    except ScanError as error:
        message = str(error)
    except OSError:
        # The disk is full or gone: the next scan would fare no better.
        raise
    except Exception as error:  # noqa: BLE001
        # A bug or a library's failure on one scan must not cost the others.
        message = f"{task.scan.path}: unexpected {type(error).__name__}: {error}. Run with --debug."
        if debug:
            traceback.print_exc()
    return failure(row, message, clock.seconds)


def _share_cores() -> None:
    """Compute with one thread where this is one of several processes."""
    if parent_process() is not None:
        torch.set_num_threads(1)


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """What all scans of a prediction share; picklable, so that every process can make its own.

    Parameters
    ----------
    model, atlas : str
        Names or paths.
    device : {"cpu", "cuda", "mps"}
        Where to compute.
    maps, report : bool
        What to write beside the age.
    participants : Participants or None
        Ages, which count before those that came with the scans.
    resume : bool
        Keep what an earlier run finished, where this run would give the same.
    debug : bool
        Show tracebacks.
    """

    model: str
    atlas: str
    device: str
    maps: bool
    report: bool
    participants: Participants | None
    resume: bool
    debug: bool

    def start(self) -> "Predictor":
        """Load the model and whatever else all scans share.

        Raises
        ------
        UsageError
            If model or atlas cannot be used.
        """
        return Predictor(self)


class Predictor:
    """Predicts one scan after the other.

    Parameters
    ----------
    settings : PredictSettings
        What they share.
    """

    def __init__(self, settings: PredictSettings) -> None:
        _share_cores()
        self.settings = settings
        self.atlas = load_atlas(settings.atlas)
        self.ensemble = load_ensemble(settings.model, settings.device)
        self.preprocessor = Preprocessor(self.ensemble.card.preprocess, settings.device)

    def __call__(self, task: Task, announce: Announce | None = None) -> Outcome:
        """Predict a scan and write its files; whatever is wrong with it stays its own.

        Raises
        ------
        OSError
            If results cannot be written.
        """
        clock = _Clock(announce)
        row = {
            **known_of(task.scan),
            "model_id": self.ensemble.model_id,
            "preprocessing_id": self.ensemble.card.preprocessing_id,
        }
        return _attempt(
            task, row, clock, lambda: self._predict(task, row, clock), debug=self.settings.debug
        )

    def _predict(self, task: Task, row: dict[str, Any], clock: _Clock) -> Outcome:
        scan, settings = task.scan, self.settings
        try:
            age = _chronological_age(scan, settings.participants)
            source = content_hash(scan.path)
        except ScanError:
            remove_scan(task.folder, scan.name)
            raise
        files = scan_files(scan.name, maps=settings.maps, report=settings.report)
        if settings.resume:
            traced = provenance(self.ensemble, self.atlas if settings.maps else None)
            before = {**row, "chronological_age": age}
            done = finished_row(
                task.folder, before, name=scan.name, files=files, traced=traced, input_sha256=source
            )
            if done is not None:
                written = tuple(task.folder / name for name in sorted(files))
                return Outcome(row=done, written=written, kept=True)
        remove_scan(task.folder, scan.name)
        state = self._preprocessed(task, source) or self.preprocessor(scan.path, clock)
        clock("PredictAge")
        prediction = predict_age(self.ensemble, state)
        maps = map_prediction(self.ensemble, prediction, state.mask) if settings.maps else None
        row = {
            **row,
            "status": "ok",
            "predicted_age": prediction.predicted_age,
            "predicted_age_lower": prediction.lower,
            "predicted_age_upper": prediction.upper,
            "chronological_age": age,
            "brain_age_gap": None if age is None else prediction.predicted_age - age,
            "qc_flags": ",".join(state.flags) or None,
            "seconds": clock.seconds,
        }
        result = ScanResult(
            scan=scan,
            row=row,
            input_sha256=source,
            state=state,
            prediction=prediction,
            maps=maps,
        )
        clock("WriteResults")
        paths = write_scan(task.folder, result, self.ensemble, self.atlas, report=settings.report)
        clock("")
        return Outcome(row=row, written=tuple(paths), stages=clock.stages)

    def _preprocessed(self, task: Task, source: str) -> ScanState | None:
        if task.derivative is None:
            return None
        wanted = self.ensemble.card.preprocessing_id
        return read_derivative(task.derivative, task.scan.path, wanted, source)


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
        """Load what all scans share."""
        return DerivativeMaker(self)


class DerivativeMaker:
    """Preprocesses one scan after the other into a BIDS derivative.

    Parameters
    ----------
    settings : PreprocessSettings
        What they share.
    """

    def __init__(self, settings: PreprocessSettings) -> None:
        _share_cores()
        self.settings = settings
        self.preprocessor = Preprocessor(settings.config, settings.device)

    def __call__(self, task: Task, announce: Announce | None = None) -> Outcome:
        """Preprocess a scan and write its derivative; whatever is wrong with it stays its own.

        Raises
        ------
        OSError
            If results cannot be written.
        """
        clock = _Clock(announce)
        row = {**known_of(task.scan), "preprocessing_id": self.settings.config.identity()}
        return _attempt(
            task, row, clock, lambda: self._make(task, row, clock), debug=self.settings.debug
        )

    def _make(self, task: Task, row: dict[str, Any], clock: _Clock) -> Outcome:
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
        row = {
            **row,
            "status": "ok",
            "qc_flags": ",".join(state.flags) or None,
            "seconds": clock.seconds,
        }
        return Outcome(row=row, written=place.files, kept=done is not None, stages=clock.stages)


def _chronological_age(scan: ScanName, participants: Participants | None) -> float | None:
    if participants is None:
        return scan.chronological_age
    try:
        return participants.age_of(scan.participant_id)
    except KeyError:
        raise ScanError(
            scan.path,
            must_hold="its participant must stand in the participants table",
            found=f"no row for {scan.participant_id!r}",
            remedy="Add the row (age n/a if unknown), or leave --participants out.",
        ) from None
