"""Regression of age on the volumes of labelled regions: the bar that networks have to clear."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.io import read_volume
from ermoe_ba.model.age_curve import AgeCurve
from ermoe_ba.space import Array
from ermoe_ba.study import StudyScan

# From no shrinkage to the mean age, for about a hundred standardised volumes.
RIDGE_PENALTIES = np.logspace(-1, 5, 25)
REGRESSIONS = ("ridge", "gpr")


def regional_volumes(path: Path, labels: Sequence[int]) -> Array:
    """Return the volumes of labelled regions relative to that of all labels.

    Parameters
    ----------
    path : Path
        A label map in the space of its scan; 0 is outside.
    labels : sequence of int
        N labels, none negative.

    Returns
    -------
    ndarray, shape (N,)
        Shares from 0 to 1 of the volume that all labels of the map fill together.

    Raises
    ------
    ScanError
        If the file cannot be read or has no label.
    """
    data = np.rint(read_volume(path, "scan").data).astype(np.int64)
    counts = np.bincount(data[data > 0], minlength=max(labels) + 1)
    if not counts.sum():
        raise ScanError(
            path,
            must_hold="a label map must have a label",
            found="nothing but 0",
            remedy="Give the map of the same scan.",
        )
    return np.asarray(counts[list(labels)] / counts.sum())


def label_volumes(scans: Sequence[StudyScan], labels: Iterable[int]) -> Array:
    """Return the volumes of labelled regions of some scans.

    Parameters
    ----------
    scans : sequence of StudyScan
        N scans with label maps.
    labels : iterable of int
        K labels.

    Returns
    -------
    ndarray, shape (N, K)
        As `regional_volumes` gives them.

    Raises
    ------
    UsageError
        If a scan has no label map.
    ScanError
        As from `regional_volumes`.
    """
    wanted = list(labels)
    rows = []
    for scan in scans:
        if scan.labels is None:
            raise UsageError(
                "Regional volumes need label maps: the recipe must state labels and label_table; "
                "found neither."
            )
        rows.append(regional_volumes(scan.labels, wanted))
    return np.stack(rows)


def make_regression(
    name: str, num_volumes: int, age_bounds: tuple[float, ...] = ()
) -> TransformedTargetRegressor:
    """Return a regression on standardised volumes.

    Parameters
    ----------
    name : {"ridge", "gpr"}
        Ridge regression, its penalty chosen by leave-one-out within the training scans; or a
        Gaussian process with a squared-exponential kernel and noise, its hyperparameters chosen by
        marginal likelihood (as Cole 2017, NeuroImage 163:115, on other features).
    num_volumes : int
        Regions; sets the first length scale.
    age_bounds : tuple of float
        As in `ModelConfig`: a network's rivals have the same curve between what they fit and ages.

    Returns
    -------
    TransformedTargetRegressor
        Of scikit-learn, not fitted; fits and predicts ages in years.
    """
    curve = AgeCurve(age_bounds)
    if name == "ridge":
        regression = RidgeCV(RIDGE_PENALTIES)
    else:
        # Two scans are about sqrt(2 n) apart in n standardised volumes.
        kernel = ConstantKernel() * RBF(np.sqrt(2.0 * num_volumes), (1.0, 1e4)) + WhiteKernel(0.1)
        regression = GaussianProcessRegressor(kernel, normalize_y=True)
    return TransformedTargetRegressor(
        make_pipeline(StandardScaler(), regression),
        func=lambda ages: curve.score(torch.as_tensor(ages)).numpy(),
        inverse_func=lambda scores: curve(torch.as_tensor(scores)).numpy(),
    )
