"""Scans of simulated sites, preprocessed: from heads as they came, or from prepared scans."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.io import read_volume, write_volume
from ermoe_ba.preprocess import Preprocessor, ScanState
from ermoe_ba.preprocess.intensity import NormaliseIntensity
from ermoe_ba.resampling import resample
from ermoe_ba.simulated_sites import SimulatedSite
from ermoe_ba.space import MODEL_GRID, Volume
from ermoe_ba.t1w import read_t1w

# What preprocessing undoes before it normalises: fields by bias correction, position by
# registration. On eight heads they moved ages by 0.2 to 0.3 years in the mean.
UNDONE = ("add_bias", "turn_head")


def scan_head(
    head: Path,
    cavity: Path,
    site: SimulatedSite,
    preprocessor: Preprocessor,
    rng: np.random.Generator,
) -> ScanState:
    """Change a head as it came from the scanner, and preprocess it from the start.

    Parameters
    ----------
    head : Path
        T1w scan.
    cavity : Path
        Label map on the same grid, above 0 inside the skull.
    site : SimulatedSite
        Where it is scanned.
    preprocessor : Preprocessor
        Of the model.
    rng : Generator
        Of the noise.

    Returns
    -------
    ScanState
        As the preprocessing gives it.

    Raises
    ------
    ScanError
        If the preprocessing refuses what the site gave, or a file cannot be read.
    """
    scanned = site.scan(read_t1w(head), read_volume(cavity, "scan"), rng)
    with TemporaryDirectory() as folder:
        path = Path(folder) / head.name
        write_volume(path, scanned)
        return preprocessor(path)


def scan_prepared(
    prepared: PreparedScan,
    site: SimulatedSite,
    preprocessor: Preprocessor,
    rng: np.random.Generator,
) -> ScanState:
    """Change a scan on the model grid, and normalise its intensities anew.

    Brain extraction, registration and bias correction are those of the unchanged head, and the
    steps named in `UNDONE` are left out: a tenth of the time of `scan_head`. What normalising does
    to the unchanged scan, which had been normalised before, is taken out again: a second fit of
    white matter is not quite the first, and that alone would move ages. A site without steps
    therefore gives the scan back.

    Parameters
    ----------
    prepared : PreparedScan
        The scan as it was.
    site : SimulatedSite
        Where it is scanned.
    preprocessor : Preprocessor
        Of the model.
    rng : Generator
        Of the noise.

    Returns
    -------
    ScanState
        Of the model grid; no figures but those that are measured on it.

    Raises
    ------
    ScanError
        If white matter is no longer brighter than the rest.
    """
    steps = tuple(step for step in site.steps if step.change not in UNDONE)
    image = Volume(prepared.t1w.data, MODEL_GRID)
    mask = prepared_mask = Volume(prepared.brain_mask.data, MODEL_GRID)
    scanned = replace(site, steps=steps).scan(image, mask, rng)
    if scanned.grid != MODEL_GRID:
        # Splines may fall below 0 at sharp edges.
        sampled = resample(scanned, MODEL_GRID, order=3)
        scanned = sampled.same_grid(np.clip(sampled.data, 0, None))
    if site.extracted:
        mask = mask.same_grid((scanned.data > 0).astype(np.uint8))
    result = _normalised(prepared, scanned, mask, preprocessor)
    twice = _normalised(prepared, image, prepared_mask, preprocessor).image.data
    shown = (image.data > 0) & (twice > 0)
    once = np.divide(image.data, twice, out=np.ones_like(twice), where=shown)
    return replace(result, t1w=result.image.same_grid(result.image.data * once))


def _normalised(
    prepared: PreparedScan, t1w: Volume, mask: Volume, preprocessor: Preprocessor
) -> ScanState:
    """Take the last step of the preprocessing."""
    transforms = preprocessor.steps.transforms
    last = [type(transform) for transform in transforms].index(NormaliseIntensity)
    state = ScanState(path=Path(prepared.participant_id), t1w=t1w, brain_mask=mask)
    result = preprocessor.steps(state, start=last)
    assert isinstance(result, ScanState)
    return result
