"""The worker that predicts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ermoe_ba.atlas import load_atlas
from ermoe_ba.brain_age import BrainAgeModel, Examined
from ermoe_ba.checkpoint import load_ensemble
from ermoe_ba.cohort import Participants, chronological_age
from ermoe_ba.derivatives import read_derivative
from ermoe_ba.errors import ScanError, printable
from ermoe_ba.outputs import ScanResult, kept_thumbnail, provenance, thumbnail, write_scan
from ermoe_ba.preprocess import Preprocessor, ScanState
from ermoe_ba.scan_files import finished_row, remove_scan, scan_files
from ermoe_ba.t1w import content_hash
from ermoe_ba.training_scans import SEEN
from ermoe_ba.workers.outcome import Outcome, Task, failure, one_line
from ermoe_ba.workers.worker import Clock, Worker


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """What all scans of a prediction share; picklable, so that every process can make its own.

    Parameters
    ----------
    model, atlas : str
        Names or paths.
    atlas_labels : Path or None
        Label table of an atlas given by path, where it does not lie beside it.
    atlas_space : str or None
        Space of an atlas given by path, where its name does not tell.
    device : {"cpu", "cuda", "mps"}
        Where to compute.
    maps, report : bool
        What to write beside the age.
    scan_space : tuple of str
        Keys of `SCAN_SPACE`: maps to write on the scan's own grid as well.
    participants : Participants or None
        Ages, which count before those that came with the scans, but for ages at a session. Whoever
        is missing from it has no age.
    force : bool
        Give an age where the quality of a scan forbids it, with the reason beside it.
    resume : bool
        Keep what an earlier run finished, where this run would give the same.
    debug : bool
        Show tracebacks.
    """

    model: str
    atlas: str
    atlas_labels: Path | None
    atlas_space: str | None
    device: str
    maps: bool
    report: bool
    scan_space: tuple[str, ...]
    participants: Participants | None
    force: bool
    resume: bool
    debug: bool

    def start(self) -> "Predictor":
        """Load the model and whatever else all scans share.

        Returns
        -------
        Predictor
            Ready for the first scan.

        Raises
        ------
        UsageError
            If model or atlas cannot be used.
        """
        return Predictor(self)


class Predictor(Worker):
    """Predicts one scan after the other.

    Parameters
    ----------
    settings : PredictSettings
        What they share.
    """

    def __init__(self, settings: PredictSettings) -> None:
        super().__init__(debug=settings.debug)
        self.settings = settings
        self.atlas = load_atlas(settings.atlas, settings.atlas_labels, settings.atlas_space)
        self.ensemble = load_ensemble(settings.model, settings.device)
        wanted = self.ensemble.card.preprocess
        self.preprocessor = Preprocessor(wanted, settings.device, force=settings.force)
        self.model = BrainAgeModel(self.ensemble, self.preprocessor)

    def known(self, task: Task) -> dict[str, Any]:
        """Return who a scan is of and how old, so far as that is known.

        Parameters
        ----------
        task : Task
            The scan.

        Returns
        -------
        dict
            As from `Worker.known`, and ``chronological_age`` in years or None.
        """
        age = chronological_age(task.scan, self.settings.participants)
        return {**super().known(task), "chronological_age": age}

    def traced(self) -> dict[str, Any]:
        """Return the identities of model and preprocessing.

        Returns
        -------
        dict
            ``model_id`` and ``preprocessing_id``.
        """
        return {
            "model_id": self.ensemble.model_id,
            "preprocessing_id": self.ensemble.card.preprocessing_id,
        }

    def work(self, task: Task, row: dict[str, Any], clock: Clock) -> Outcome:
        """Predict a scan and write its files.

        Parameters
        ----------
        task : Task
            The scan, and where its files go.
        row : dict
            What is known of it, by columns of ``predictions.tsv``.
        clock : Clock
            Told of each stage.

        Returns
        -------
        Outcome
            Of status ``ok`` or ``refused``.

        Raises
        ------
        ScanError
            If the scan cannot be used.
        OSError
            If results cannot be written.
        """
        scan, settings = task.scan, self.settings
        age = row["chronological_age"]
        try:
            source = content_hash(scan.path)
        except ScanError:
            remove_scan(task.folder, scan.name)
            raise
        files = scan_files(
            scan.name,
            maps=settings.maps,
            report=settings.report,
            scan_space=settings.scan_space,
        )
        if settings.resume:
            atlas = self.atlas if settings.maps else None
            traced = provenance(self.ensemble, atlas, forced=settings.force)
            before = {
                **row,
                "input": printable(scan.source),
                "age_at_session": scan.age_at_session,
            }
            done = finished_row(
                task.folder, before, name=scan.name, files=files, traced=traced, input_sha256=source
            )
            if done is not None:
                written = tuple(task.folder / name for name in sorted(files))
                picture = kept_thumbnail(task.folder, scan.name)
                return Outcome(
                    row={**done, "input": row["input"]},
                    written=written,
                    kept=True,
                    thumbnail=picture,
                )
        remove_scan(task.folder, scan.name)
        state = self._preprocessed(task, source) or self.preprocessor(scan.path, clock)
        clock("CheckQuality")
        examined = self.model.examine(state, scan, age)
        row |= {"qc_flags": _listed(examined), SEEN: examined.seen_in_training}
        picture = thumbnail(state.image, state.mask)
        refusal = examined.refusal
        if refusal is not None:
            if not settings.force:
                told = failure(row, str(refusal), clock.seconds, status="refused")
                return replace(told, thumbnail=picture)
            row["message"] = one_line(f"forced: {refusal.why}")
        clock("PredictAge")
        found = self.model.read(examined, maps=settings.maps)
        row = {
            **row,
            "qc_flags": _listed(found),
            "status": "ok",
            "predicted_age": found.predicted_age,
            "predicted_age_lower": found.interval[0],
            "predicted_age_upper": found.interval[1],
            "interval_widening": found.interval_widening,
            "brain_age_gap": found.brain_age_gap,
            "seconds": clock.seconds,
        }
        result = ScanResult(
            scan=scan,
            row=row,
            input_sha256=source,
            state=state,
            figures=found.figures,
            checks=found.verdict.checks,
            prediction=found.prediction,
            maps=found.maps,
        )
        clock("WriteResults")
        paths = write_scan(
            task.folder,
            result,
            self.ensemble,
            self.atlas,
            report=settings.report,
            forced=settings.force,
            scan_space=settings.scan_space,
        )
        clock("")
        return Outcome(row=row, written=tuple(paths), stages=clock.stages, thumbnail=picture)

    def _preprocessed(self, task: Task, source: str) -> ScanState | None:
        if task.derivative is None:
            return None
        wanted = self.ensemble.card.preprocessing_id
        return read_derivative(task.derivative, task.scan.path, wanted, source)


def _listed(examined: Examined) -> str | None:
    """Return the flags as the column ``qc_flags`` has them."""
    return ";".join(examined.qc_flags) or None
