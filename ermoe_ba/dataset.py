"""Preprocessed scans on disk, made once and read many times."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ermoe_ba.io import read_volume, write_json, write_volume
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume


@dataclass(frozen=True, kw_only=True)
class PreparedScan:
    """One scan on the model grid.

    Parameters
    ----------
    participant_id : str
        Whose it is.
    t1w : Volume
        float32 intensities, white matter 1, shape (91, 109, 91).
    brain_mask : Volume
        uint8, 1 in the brain.
    labels : Volume or None
        Label map (dseg) on the same grid, where the cohort has one.
    """

    participant_id: str
    t1w: Volume
    brain_mask: Volume
    labels: Volume | None


class PreparedCohort:
    """A folder of preprocessed scans, one subfolder a preprocessing identity.

    Parameters
    ----------
    folder : Path
        Where the results are kept.
    preprocessor : Preprocessor
        Makes what is missing.
    """

    def __init__(self, folder: Path, preprocessor: Preprocessor) -> None:
        self.folder = folder / preprocessor.config.identity()
        self.preprocessor = preprocessor

    def prepare(self, participant_id: str, t1w: Path, labels: Path | None = None) -> None:
        """Preprocess one scan unless that was done before.

        Parameters
        ----------
        participant_id : str
            Names the results.
        t1w : Path
            The scan.
        labels : Path, optional
            Its label map on any grid of the same scanner space; sampled without interpolation.

        Raises
        ------
        ScanError
            If the scan cannot be used.
        """
        # Written last: where it stands, scan and mask stand.
        done = self._path(participant_id, "desc-preproc_T1w.json")
        if not done.is_file():
            state = self.preprocessor(t1w)
            assert state.scan_to_template is not None
            write_volume(self._path(participant_id, "desc-preproc_T1w.nii.gz"), state.image)
            write_volume(self._path(participant_id, "desc-brain_mask.nii.gz"), state.mask)
            content = {
                "figures": state.figures,
                "flags": list(state.flags),
                "scan_to_template_affine": state.scan_to_template.tolist(),
            }
            write_json(done, content)
        moved = self._path(participant_id, "dseg.nii.gz")
        # Labels may come after the scan was prepared.
        if labels is None or moved.is_file():
            return
        affine = np.array(json.loads(done.read_text("utf-8"))["scan_to_template_affine"])
        dseg = resample(read_volume(labels, "scan"), MODEL_GRID, order=0, to_grid_space=affine)
        write_volume(moved, dseg.same_grid(np.rint(dseg.data).astype(np.int16)))

    def read(self, participant_id: str) -> PreparedScan:
        """Return one preprocessed scan."""
        labels = self._path(participant_id, "dseg.nii.gz")
        return PreparedScan(
            participant_id=participant_id,
            t1w=self._volume(participant_id, "desc-preproc_T1w.nii.gz"),
            brain_mask=self._volume(participant_id, "desc-brain_mask.nii.gz"),
            labels=read_volume(labels, TEMPLATE_SPACE) if labels.is_file() else None,
        )

    def _path(self, participant_id: str, suffix: str) -> Path:
        return self.folder / f"sub-{participant_id}_{suffix}"

    def _volume(self, participant_id: str, suffix: str) -> Volume:
        return read_volume(self._path(participant_id, suffix), TEMPLATE_SPACE)
