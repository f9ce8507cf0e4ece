"""The files of one scan: contents and order of writing."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ermoe_ba.atlas import Atlas, atlas_hash
from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.errors import printable
from ermoe_ba.io import read_volume, write_json, write_volume
from ermoe_ba.maps import region_table
from ermoe_ba.maps.experts import expert_labels
from ermoe_ba.naming import ScanName
from ermoe_ba.predict import Prediction, PredictionMaps
from ermoe_ba.preprocess import ScanState
from ermoe_ba.quality import Check
from ermoe_ba.quality.limits import LIMITS_FILE
from ermoe_ba.scan_files import (
    CONTRIBUTIONS,
    EXPERT_LABELS,
    EXPERTS,
    MASK,
    MEMBER_WEIGHTS,
    MEMBER_YEARS,
    PREDICTION,
    REGIONS,
    REPORT,
    SCAN_SPACE,
    T1W,
    WINNERS,
)
from ermoe_ba.scan_report import report_content
from ermoe_ba.software import software
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume
from ermoe_ba.t1w import read_scan_grid
from ermoe_ba.tables import write_table


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """All that is known of one scan at the end.

    Parameters
    ----------
    scan : ScanName
        Who it is.
    row : dict
        Its row of ``predictions.tsv``.
    input_sha256 : str
        Of the scan's files.
    state : ScanState
        The preprocessed scan.
    figures : dict of str to float
        All that was measured of its quality.
    checks : tuple of Check
        The figures against their limits.
    prediction : Prediction
        Its age.
    maps : PredictionMaps or None
        Its maps, unless they were not asked for.
    """

    scan: ScanName
    row: dict[str, Any]
    input_sha256: str
    state: ScanState
    figures: dict[str, float]
    checks: tuple[Check, ...]
    prediction: Prediction
    maps: PredictionMaps | None


def provenance(ensemble: Ensemble, atlas: Atlas | None, *, forced: bool) -> dict[str, str]:
    """Return versions, model and settings that a result can be traced by.

    Parameters
    ----------
    ensemble : Ensemble
        The model.
    atlas : Atlas or None
        Of the region table; None where no maps are made.
    forced : bool
        Whether ages are given whatever the quality.

    Returns
    -------
    dict of str to str
        What stands as ``provenance`` in ``prediction.json``: equal where the same scan would give
        the same files.
    """
    return {
        **software(),
        "model_id": ensemble.model_id,
        "preprocessing_id": ensemble.card.preprocessing_id,
        "model_grid": f"{MODEL_GRID.space}, {' x '.join(map(str, MODEL_GRID.shape))}, 2 mm",
        "training_data": str(ensemble.card.provenance.get("data", "unknown")),
        "training_data_hash": str(ensemble.card.provenance.get("data_hash", "unknown")),
        "interval_widening_rule": ensemble.widening.identity if ensemble.widening else "none",
        "training_scans": (
            ensemble.training_scans.identity if ensemble.training_scans else "unknown"
        ),
        "quality_limits": hashlib.sha256(LIMITS_FILE.read_bytes()).hexdigest()[:12],
        "forced": "yes" if forced else "no",
        "atlas": atlas.name if atlas else "none",
        "atlas_hash": atlas_hash(atlas) if atlas else "none",
        "atlas_sampling": atlas.sampling if atlas else "none",
    }


def kept_thumbnail(folder: Path, name: str) -> bytes:
    """Draw the thumbnail of a scan that an earlier run finished, from what it wrote.

    Parameters
    ----------
    folder : Path
        Of its results.
    name : str
        First part of its files' names.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ScanError
        If its files cannot be read.
    """
    t1w = read_volume(folder / f"{name}_{T1W}", TEMPLATE_SPACE)
    return thumbnail(t1w, read_volume(folder / f"{name}_{MASK}", TEMPLATE_SPACE))


def thumbnail(t1w: Volume, brain_mask: Volume) -> bytes:
    """Draw a preprocessed scan as the page of its batch shows it, PNG.

    Parameters
    ----------
    t1w : Volume
        Shape (91, 109, 91), on the model grid, white matter at 1.
    brain_mask : Volume
        1 in the brain, on the same grid.

    Returns
    -------
    bytes
        PNG.
    """
    from ermoe_ba.report import draw_thumbnail

    return draw_thumbnail(t1w, brain_mask)


def write_scan(
    folder: Path,
    result: ScanResult,
    ensemble: Ensemble,
    atlas: Atlas,
    *,
    report: bool,
    forced: bool,
    scan_space: tuple[str, ...] = (),
) -> list[Path]:
    """Write the files of one scan, each whole or not at all, the JSON last.

    Parameters
    ----------
    folder : Path
        Where to.
    result : ScanResult
        What to write.
    ensemble : Ensemble
        The model that predicted.
    atlas : Atlas
        For the region table.
    report : bool
        Whether to draw the HTML report as well; it needs the maps.
    forced : bool
        Whether ages were given whatever the quality.
    scan_space : tuple of str
        Keys of `SCAN_SPACE`: maps to write on the scan's own grid as well.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ScanError
        If maps shall be brought to a scan whose header cannot be read any more.
    """
    state, prediction, maps = result.state, result.prediction, result.maps
    written: list[Path] = []

    def path(suffix: str) -> Path:
        written.append(folder / f"{result.scan.name}_{suffix}")
        return written[-1]

    names = ensemble.card.model.expert_names
    assert state.scan_to_template is not None
    content = {
        **result.row,
        # Results are shared, and the folders of a machine are nobody else's business.
        "input": printable(result.scan.source),
        # Maps of a cohort must know: no table of participants counts before such an age.
        "age_at_session": result.scan.age_at_session,
        "input_sha256": result.input_sha256,
        "baseline_years": prediction.baseline_years,
        "expert_years": dict(
            zip(names, prediction.contributions_te.sum(axis=0).tolist(), strict=True)
        ),
        "expert_load": dict(zip(names, prediction.weights_te.mean(axis=0).tolist(), strict=True)),
        "member_ages": list(prediction.member_ages),
        "member_stems": ensemble.member_stems,
        "interval_coverage": ensemble.card.coverage,
        "threshold_fallback_share": prediction.fallback_share,
        "quality": result.figures,
        "quality_checks": [check.describe() for check in result.checks],
        "scan_to_template_affine": state.scan_to_template.tolist(),
        "grid": MODEL_GRID.describe(),
        "provenance": provenance(ensemble, atlas if maps else None, forced=forced),
    }
    volumes = {T1W: state.image, MASK: state.mask}
    if maps is not None:
        volumes |= {
            EXPERTS: maps.experts,
            WINNERS: maps.winners,
            CONTRIBUTIONS: maps.total,
            MEMBER_WEIGHTS: maps.member_weights,
            MEMBER_YEARS: maps.member_years,
            **_on_scan(result, maps, scan_space),
        }
    # Volumes are compressed in a second thread while the report is drawn in this one.
    with ThreadPoolExecutor(max_workers=1) as compressor:
        tasks = [compressor.submit(write_volume, path(name), v) for name, v in volumes.items()]
        if maps is not None:
            write_table(path(EXPERT_LABELS), expert_labels(ensemble.card.model))
            regions = region_table(maps.experts, maps.contributions, atlas, state.mask)
            write_table(path(REGIONS), regions)
            if report:
                from ermoe_ba.report import write_report

                shown = report_content(
                    result.scan.name,
                    content,
                    ensemble.card,
                    atlas,
                    regions,
                    t1w=state.image,
                    brain_mask=state.mask,
                    experts=maps.experts,
                    contributions=maps.total,
                )
                write_report(path(REPORT), shown)
    for task in tasks:
        task.result()
    write_json(path(PREDICTION), content)
    return written


def _on_scan(
    result: ScanResult, maps: PredictionMaps, wanted: tuple[str, ...]
) -> dict[str, Volume]:
    """Return maps on the scan's own grid, by what follows the scan's name in their files' names."""
    if not wanted:
        return {}
    assert result.state.scan_to_template is not None
    grid = read_scan_grid(result.scan.path)
    places = maps.places.on_scan(grid, result.state.scan_to_template)
    weights_te = result.prediction.weights_te
    make = {
        "experts": lambda: places.weights(weights_te),
        "winners": lambda: places.winners(weights_te),
        "contributions": lambda: places.years(result.prediction.contributions_te.sum(axis=1)),
    }
    return {SCAN_SPACE[key]: make[key]() for key in wanted}
