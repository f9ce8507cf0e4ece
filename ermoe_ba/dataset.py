"""Preprocessed scans on disk, made once and read many times, found by what they were made of."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ermoe_ba.batch import run_batch
from ermoe_ba.errors import ScanError
from ermoe_ba.inspection import UNUSABLE_COLUMNS
from ermoe_ba.io import read_volume, write_json, write_volume
from ermoe_ba.preprocess import PreprocessConfig, Preprocessor
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Volume
from ermoe_ba.study import StudyScan
from ermoe_ba.t1w import content_hash


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

    Files are named by the content of the scan and of its label map: a scan that was changed is
    prepared anew, and one that other runs prepared, under whatever name, is not.

    Parameters
    ----------
    folder : Path
        Where the results are kept; runs may share it.
    preprocessor : Preprocessor
        Makes what is missing.
    """

    def __init__(self, folder: Path, preprocessor: Preprocessor) -> None:
        self.folder, self.preprocessor = folder, preprocessor
        self._hashes: dict[Path, str] = {}

    def prepare_all(self, scans: Sequence[StudyScan], jobs: int = 1) -> pd.DataFrame:
        """Preprocess all scans that are not there yet.

        Parameters
        ----------
        scans : sequence of StudyScan
            Of a study.
        jobs : int
            Processes.

        Returns
        -------
        DataFrame
            `UNUSABLE_COLUMNS`, one row a scan that cannot be used, with the reason.
        """
        missing = [scan for scan in scans if not self._is_ready(scan)]
        start = partial(_preparer, self.folder, self.preprocessor.config)
        if jobs == 1 or len(missing) < 2:
            # This process has a preprocessor already.
            start = partial(_itself, self.fault_of)
        faults: dict[int, str] = {}
        with tqdm(total=len(missing), desc="prepare", unit="scan", mininterval=2.0) as bar:
            for number, fault in run_batch(start, missing, jobs, _lost):
                bar.update()
                if fault is not None:
                    faults[number] = fault
        rows = [
            (missing[n].name, missing[n].participant_id, str(missing[n].t1w), faults[n])
            for n in sorted(faults)
        ]
        return pd.DataFrame(rows, columns=list(UNUSABLE_COLUMNS))

    def prepare(self, scan: StudyScan) -> None:
        """Preprocess one scan, and bring its label map along, unless that was done before.

        Parameters
        ----------
        scan : StudyScan
            Its label map, where there is one, on any grid of the same scanner space; sampled
            without interpolation.

        Raises
        ------
        ScanError
            If scan or label map cannot be used.
        """
        # Written last: where it stands, scan and mask stand.
        done = self._path(scan, "desc-preproc_T1w.json")
        if not done.is_file():
            state = self.preprocessor(scan.t1w)
            assert state.scan_to_template is not None
            write_volume(self._path(scan, "desc-preproc_T1w.nii.gz"), state.image)
            write_volume(self._path(scan, "desc-brain_mask.nii.gz"), state.mask)
            content = {
                "source": scan.t1w.name,
                "figures": state.figures,
                "flags": list(state.flags),
                "scan_to_template_affine": state.scan_to_template.tolist(),
            }
            write_json(done, content)
        moved = self._labels(scan)
        # Labels may come after the scan was prepared.
        if moved is None or moved.is_file():
            return
        assert scan.labels is not None
        affine = np.array(json.loads(done.read_text("utf-8"))["scan_to_template_affine"])
        dseg = resample(read_volume(scan.labels, "scan"), MODEL_GRID, order=0, to_grid_space=affine)
        write_volume(moved, dseg.same_grid(np.rint(dseg.data).astype(np.int16)))

    def read(self, scan: StudyScan) -> PreparedScan:
        """Read one preprocessed scan.

        Parameters
        ----------
        scan : StudyScan
            Prepared before.

        Returns
        -------
        PreparedScan
            Volumes on the model grid.

        Raises
        ------
        ScanError
            If a file of it is missing or damaged.
        """
        labels = self._labels(scan)
        return PreparedScan(
            participant_id=scan.participant_id,
            t1w=read_volume(self._path(scan, "desc-preproc_T1w.nii.gz"), TEMPLATE_SPACE),
            brain_mask=read_volume(self._path(scan, "desc-brain_mask.nii.gz"), TEMPLATE_SPACE),
            labels=None if labels is None else read_volume(labels, TEMPLATE_SPACE),
        )

    def fault_of(self, scan: StudyScan) -> str | None:
        """Prepare a scan as `prepare` does, and say why it cannot be used.

        Parameters
        ----------
        scan : StudyScan
            As for `prepare`.

        Returns
        -------
        str or None
            The error's text; None where the scan can be used.
        """
        try:
            self.prepare(scan)
        except ScanError as error:
            return str(error)
        return None

    def _is_ready(self, scan: StudyScan) -> bool:
        try:
            labels = self._labels(scan)
            there = self._path(scan, "desc-preproc_T1w.json").is_file()
        except ScanError:
            # Preparing it will say what is wrong with it.
            return False
        return there and (labels is None or labels.is_file())

    def _path(self, scan: StudyScan, suffix: str) -> Path:
        folder = self.folder / self.preprocessor.config.identity()
        # 64 bits tell more scans apart than there are.
        return folder / f"{self._hash(scan.t1w)[:16]}_{suffix}"

    def _labels(self, scan: StudyScan) -> Path | None:
        if scan.labels is None:
            return None
        return self._path(scan, f"labels-{self._hash(scan.labels)[:16]}_dseg.nii.gz")

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = content_hash(path)
        return self._hashes[path]


def _preparer(folder: Path, config: PreprocessConfig) -> Callable[[StudyScan], str | None]:
    """Return what a process of its own prepares scans with."""
    if parent_process() is not None:
        # The processes share the cores among them.
        torch.set_num_threads(1)
    return PreparedCohort(folder, Preprocessor(config)).fault_of


def _itself(work: Callable[[StudyScan], str | None]) -> Callable[[StudyScan], str | None]:
    return work


def _lost(scan: StudyScan) -> str:
    return str(
        ScanError(
            scan.t1w,
            must_hold="a scan must be prepared within the memory that there is",
            found="that the process working on it was killed",
            remedy="Use fewer --jobs, or check the scan's size.",
        )
    )
