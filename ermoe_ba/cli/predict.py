"""``ermoe-ba predict``: a batch of scans, each on its own."""

import argparse
import gc
import sys
import time
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from tqdm import tqdm

from ermoe_ba.atlas import DEFAULT_ATLAS, Atlas, load_atlas
from ermoe_ba.checkpoint import DEFAULT_MODEL, Ensemble, load_ensemble
from ermoe_ba.cohort import Participants, read_participants
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.naming import ScanName, find_scans, name_scans
from ermoe_ba.outputs import ScanResult, remove_scan, write_scan
from ermoe_ba.predict import map_prediction, predict_age
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.tables import predictions_table, write_table


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What all scans of a run share."""

    ensemble: Ensemble
    preprocessor: Preprocessor
    atlas: Atlas
    participants: Participants | None
    out: Path
    maps: bool
    report: bool


def run_predict(options: argparse.Namespace) -> int:
    """Predict all inputs; return the exit code (0 all done, 1 at least one scan failed).

    Raises
    ------
    UsageError
        If the call itself is wrong: before anything is computed.
    """
    table_path = options.out / "predictions.tsv"
    if table_path.exists() and not options.overwrite:
        raise UsageError(
            f"{options.out} already holds predictions.tsv; give --overwrite or another --out."
        )
    Thread(target=_load_ahead, daemon=True).start()
    scans = name_scans(find_scans(options.inputs))
    participants = read_participants(options.participants) if options.participants else None
    atlas = load_atlas(options.atlas or DEFAULT_ATLAS)
    device = _device(options.device)
    ensemble = load_ensemble(options.model or DEFAULT_MODEL, device)
    # An empty table first: a folder that cannot be written is found before the work, not after.
    try:
        write_table(table_path, predictions_table([]))
    except OSError as error:
        raise UsageError(
            f"--out {options.out}: must be a folder that can be written; found: {error.strerror}. "
            "Choose another folder."
        ) from error
    session = _Session(
        ensemble=ensemble,
        preprocessor=Preprocessor(ensemble.card.preprocess, device),
        atlas=atlas,
        participants=participants,
        out=options.out,
        maps=not options.no_maps,
        report=not (options.no_maps or options.no_report),
    )
    rows: list[dict[str, Any]] = []
    written: list[Path] = []
    with tqdm(scans, desc="scans", unit="scan") as bar:
        for scan in bar:
            row, files = _attempt(scan, session, bar, debug=options.debug)
            rows.append(row)
            written += files
            write_table(table_path, predictions_table(rows))
    _summarise(rows, session.ensemble.card.coverage, [table_path, *written])
    return 0 if all(row["status"] == "ok" for row in rows) else 1


def _load_ahead() -> None:
    """Load what the later steps need while the first ones compute: it saves seconds on one scan."""
    for name in ("deepbet", "ants", "ermoe_ba.report"):
        import_module(name)
    # What is loaded stays until the end: the collector need never look at it again.
    gc.freeze()
    gc.enable()


def _attempt(
    scan: ScanName, session: _Session, bar: "tqdm[ScanName]", *, debug: bool
) -> tuple[dict[str, Any], list[Path]]:
    """Predict one scan; return its row and its files. Whatever is wrong with it stays its own."""
    start = time.perf_counter()
    row: dict[str, Any] = {
        "participant_id": scan.participant_id,
        "session_id": scan.session_id,
        "input": str(scan.path),
        "model_id": session.ensemble.model_id,
        "preprocessing_id": session.ensemble.card.preprocessing_id,
    }
    remove_scan(session.out, scan.name)
    try:
        return _predict(scan, row, session, bar, start)
    except ScanError as error:
        message = str(error)
    except OSError:
        # The disk is full or gone: the next scan would fare no better.
        raise
    except Exception as error:  # noqa: BLE001
        # A bug or a library's failure on one scan must not cost the others.
        message = f"{scan.path}: unexpected {type(error).__name__}: {error}. Run with --debug."
        if debug:
            traceback.print_exc()
    message = " ".join(message.split())
    tqdm.write(f"failed  {message}", file=sys.stderr)
    seconds = round(time.perf_counter() - start, 2)
    return {**row, "status": "failed", "message": message, "seconds": seconds}, []


def _predict(
    scan: ScanName,
    row: dict[str, Any],
    session: _Session,
    bar: "tqdm[ScanName]",
    start: float,
) -> tuple[dict[str, Any], list[Path]]:
    age = _chronological_age(scan, session.participants)
    state = session.preprocessor(scan.path, bar.set_postfix_str)
    bar.set_postfix_str("PredictAge")
    prediction = predict_age(session.ensemble, state)
    maps = map_prediction(session.ensemble, prediction, state.mask) if session.maps else None
    row = {
        **row,
        "status": "ok",
        "predicted_age": prediction.predicted_age,
        "predicted_age_lower": prediction.lower,
        "predicted_age_upper": prediction.upper,
        "chronological_age": age,
        "brain_age_gap": None if age is None else prediction.predicted_age - age,
        "qc_flags": ",".join(state.flags) or None,
        "seconds": round(time.perf_counter() - start, 2),
    }
    result = ScanResult(scan=scan, row=row, state=state, prediction=prediction, maps=maps)
    bar.set_postfix_str("WriteResults")
    files = write_scan(session.out, result, session.ensemble, session.atlas, report=session.report)
    return row, files


def _chronological_age(scan: ScanName, participants: Participants | None) -> float | None:
    if participants is None:
        return None
    try:
        return participants.age_of(scan.participant_id)
    except KeyError:
        raise ScanError(
            scan.path,
            must_hold="its participant must stand in the participants table",
            found=f"no row for {scan.participant_id!r}",
            remedy="Add the row (age n/a if unknown), or leave --participants out.",
        ) from None


def _device(asked: str) -> str:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if asked == "auto":
        return next(name for name, there in available.items() if there)
    if not available[asked]:
        raise UsageError(f"--device {asked}: this machine or this torch has no such device.")
    return asked


def _summarise(rows: list[dict[str, Any]], coverage: float, written: list[Path]) -> None:
    for row in rows:
        if row["status"] == "ok":
            print(
                f"{row['input']}: predicted brain age {row['predicted_age']:.1f} years "
                f"({coverage:.0%} interval {row['predicted_age_lower']:.1f} to "
                f"{row['predicted_age_upper']:.1f})"
            )
    failed = sum(row["status"] != "ok" for row in rows)
    if failed:
        print(f"{failed} of {len(rows)} scans failed; see status and message in the table.")
    # Of a batch, the table is the place to look; of one scan, each of its files.
    shown = written if len(rows) == 1 else written[:1]
    print("\n".join(["Written:", *(f"  {path}" for path in shown)]))
