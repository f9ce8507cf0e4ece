"""How much wider a prediction interval is where a scan is unlike those that a model learnt from.

Shapes: S stems, Q numbers of what a scan looks like to each.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_whole
from ermoe_ba.likeness import Likeness
from ermoe_ba.quality.limits import Limit
from ermoe_ba.space import Array

FIGURE, FLAG = "description_distance", "interval_widened"
# In a model's folder, beside its weights.
WIDENING_FILE = "widening.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Widening:
    """The rule by which a model's intervals widen: ``1 + slope * max(0, distance / start - 1)``.

    Parameters
    ----------
    model_id : str
        Name and hash of the weights that it was measured for.
    likeness_s : tuple of Likeness
        Of each stem, in the order of `Ensemble.member_stems`.
    start : float
        Distance up to which the interval keeps its width; beyond it, scans bear the flag.
    slope : float
        By how many widths the interval grows for each further `start`; at least 0.
    provenance : dict of str to str
        Cohort, sites, command.

    Raises
    ------
    ValueError
        If there is no stem, or start or slope are out of range.
    """

    model_id: str
    likeness_s: tuple[Likeness, ...]
    start: float
    slope: float
    provenance: dict[str, str]

    def __post_init__(self) -> None:
        if not self.likeness_s:
            raise ValueError("A rule needs at least one stem's likeness; found none.")
        if not (self.start > 0 and 0 <= self.slope < np.inf):
            raise ValueError(
                "start must be above 0, and slope 0 or more and finite; found "
                f"{self.start:g} and {self.slope:g}."
            )

    def distance(self, looks_sq: Array) -> float:
        """Return how far a scan lies from those that the model learnt from, mean over stems.

        Parameters
        ----------
        looks_sq : ndarray, shape (S, Q)
            From `ermoe_ba.likeness.look`, by stem.

        Returns
        -------
        float
            At least 0; below `start` for most scans like the others.

        Raises
        ------
        ValueError
            If they are not as many as the rule's stems.
        """
        pairs = zip(self.likeness_s, looks_sq, strict=True)
        return float(np.mean([likeness.distance(look_q) for likeness, look_q in pairs]))

    def factor(self, distance: float) -> float:
        """Return by what the half-width of the interval is multiplied, at least 1.

        Parameters
        ----------
        distance : float
            From `distance`.

        Returns
        -------
        float
            ``1 + slope max(0, distance / start - 1)``.
        """
        return 1.0 + self.slope * max(0.0, distance / self.start - 1.0)

    @property
    def identity(self) -> str:
        """Hash of the rule, 12 hexadecimal digits: another rule gives other intervals."""
        digest = hashlib.sha256(f"{self.model_id} {self.start!r} {self.slope!r}".encode())
        for likeness in self.likeness_s:
            digest.update(likeness.mean_q.tobytes() + likeness.precision_qq.tobytes())
        return digest.hexdigest()[:12]

    @property
    def limit(self) -> Limit:
        """Where the flag is raised."""
        return Limit(flag=FLAG, figure=FIGURE, side="high", flag_at=self.start)


def conformal_slope(
    residuals: Array, distances: Array, *, half_width: float, start: float, coverage: float
) -> float:
    """Return the least slope with which widened intervals cover scans of simulated sites.

    Intervals of growing slope are nested, so that split-conformal calibration holds for them
    (Gupta, Kuchibhotla and Ramdas 2022, doi:10.1016/j.patcog.2021.108496): the score of a scan is
    the least slope whose interval holds its age, and the slope is the ceil((n + 1) coverage)-th
    smallest score. A scan of a new person at a new site, drawn as these were, is then covered with
    at least that probability.

    Parameters
    ----------
    residuals : ndarray, shape (n,)
        Predicted minus chronological age in years, each of another person at a site of its own.
    distances : ndarray, shape (n,)
        Of the same scans.
    half_width : float
        Of the interval before it is widened, years.
    start : float
        As in `Widening`.
    coverage : float
        Asked for, between 0 and 1.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If no slope reaches the coverage: too many scans lie too near to be widened for, and err.
    """
    short = np.abs(residuals) / half_width - 1.0
    beyond = np.maximum(distances / start - 1.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.where(short <= 0, 0.0, short / beyond)
    place = int(np.ceil(coverage * (len(least) + 1) - 1e-9))
    slope = np.sort(least)[place - 1] if place <= len(least) else np.inf
    if not np.isfinite(slope):
        raise ValueError(
            f"Widening from a distance of {start:g} on must be able to cover {coverage:.0%} of "
            f"{len(least)} scans; found {np.isfinite(least).mean():.1%}. Begin to widen sooner."
        )
    return float(slope)


def save_widening(folder: Path, widening: Widening) -> None:
    """Write a rule into the folder of its model, whole or not at all.

    Parameters
    ----------
    folder : Path
        Of the model; the file is called `WIDENING_FILE`.
    widening : Widening
        The rule.
    """
    arrays = {
        "mean_sq": np.stack([likeness.mean_q for likeness in widening.likeness_s]),
        "precision_sqq": np.stack([likeness.precision_qq for likeness in widening.likeness_s]),
    }
    # The header holds text alone.
    told = {
        "model_id": widening.model_id,
        "start": repr(widening.start),
        "slope": repr(widening.slope),
        "provenance": json.dumps(widening.provenance),
    }
    path = folder / WIDENING_FILE
    write_whole(path, lambda partial: save_file(arrays, partial, metadata=told))


def read_widening(folder: Path) -> Widening | None:
    """Read the rule in a model's folder.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    Widening or None
        None where the model came without one.

    Raises
    ------
    UsageError
        If the file is damaged or of other content.
    """
    path = folder / WIDENING_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            told: dict[str, Any] = file.metadata() or {}
            mean_sq, precision_sqq = file.get_tensor("mean_sq"), file.get_tensor("precision_sqq")
        return Widening(
            model_id=told["model_id"],
            likeness_s=tuple(
                Likeness(mean_q=mean_q, precision_qq=precision_qq)
                for mean_q, precision_qq in zip(mean_sq, precision_sqq, strict=True)
            ),
            start=float(told["start"]),
            slope=float(told["slope"]),
            provenance=json.loads(told["provenance"]),
        )
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: must hold how intervals widen; found {error}.") from error
