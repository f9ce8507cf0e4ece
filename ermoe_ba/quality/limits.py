"""Where a quality figure is remarkable, and where it forbids an age: learnt from a cohort."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ermoe_ba.assets import PACKAGE
from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json
from ermoe_ba.space import Array

LIMITS_FILE = PACKAGE / "quality" / "limits.json"
Side = Literal["low", "high"]

# A flag is raised this many standard deviations away from the cohort's median, the deviation taken
# on that side of it, from the tenth that lies furthest out: figures are skewed, and some heads odd.
DEVIATIONS = 3.0
# The tenth of a normal distribution that lies furthest out on one side begins here.
TENTH_IN_SD = 1.2816
# An age is refused where a figure is half (or twice) that of the cohort's worst head: on the way
# from heads that are known to be usable to a picture of nothing, which has 0.
REFUSED_RATIO = 2.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One flag, and how its limits are found.

    Parameters
    ----------
    flag : str
        Word in the column ``qc_flags``.
    figure : str
        The figure it looks at.
    side : {"low", "high"}
        On which side of the limit the flag is raised.
    learnt : {"spread", "mirror", "fixed"}
        ``spread``: from the cohort's median and deviation. ``mirror``: half-way from 0 to the
        mirror image of the cohort's least lopsided head. ``fixed``: `fixed`, for what needs no
        cohort.
    fixed : float
        The limit of a fixed rule.
    refuses : bool
        Whether the cohort's worst head also gives a limit beyond which no age is given.
    fixed_refusal : float, optional
        The limit of refusal of a fixed rule, where that needs no cohort either.
    perfect : float, optional
        The figure of a perfect scan, where it is the distance from it that counts: an age is
        refused at twice the distance of the cohort's worst head.
    """

    flag: str
    figure: str
    side: Side
    learnt: Literal["spread", "mirror", "fixed"] = "spread"
    fixed: float = 0.0
    refuses: bool = False
    fixed_refusal: float | None = None
    perfect: float | None = None


RULES = (
    Rule(flag="brain_volume_low", figure="brain_volume_ml", side="low"),
    Rule(flag="brain_volume_high", figure="brain_volume_ml", side="high"),
    # A correlation: heads that lie wrong have 0.8, not half of what heads in place have.
    Rule(
        flag="registration_doubtful",
        figure="template_correlation",
        side="low",
        refuses=True,
        perfect=1.0,
    ),
    Rule(flag="contrast_low", figure="white_grey_contrast", side="low", refuses=True),
    Rule(flag="contrast_high", figure="white_grey_contrast", side="high"),
    Rule(flag="contrast_to_noise_low", figure="cnr", side="low"),
    Rule(flag="noisy", figure="snr_white_matter", side="low"),
    Rule(flag="entropy_low", figure="efc", side="low"),
    Rule(flag="entropy_high", figure="efc", side="high"),
    Rule(flag="unlike_training", figure="training_distance", side="high"),
    Rule(flag="mirrored_look", figure="side_score", side="low", learnt="mirror"),
    # A brain that ends inside the image has no flat end at its border.
    Rule(
        flag="mask_touches_border",
        figure="flat_end_cm2",
        side="high",
        learnt="fixed",
        refuses=True,
    ),
    # Half a right angle: a header's wrong axes are off by 90 or 180 degrees. The 144 heads of the
    # cohort lie 0.5 to 32 degrees off, chins up or down. Registration turns such a head all the
    # same, if not always as exactly; whether it did, its correlation tells.
    Rule(
        flag="orientation_doubtful",
        figure="turn_degrees",
        side="high",
        learnt="fixed",
        fixed=45.0,
    ),
    # Half a voxel of the model grid; forms that tools write of each other differ by 0.01 mm.
    Rule(
        flag="qform_sform_disagree",
        figure="form_disagreement_mm",
        side="high",
        learnt="fixed",
        fixed=1.0,
    ),
    # Voxels of the training cohort's files and of the model grid: what is coarser holds less than
    # any scan that was learnt from. Slices of 2.25, 3 and 6 mm moved ages of eight heads by up to
    # 3.1, 4.3 and 11.5 years (`pipelines/robustness.py`, `thicken_slices`).
    Rule(
        flag="resolution_low",
        figure="voxel_edge_mm",
        side="high",
        learnt="fixed",
        fixed=2.0,
    ),
    # A brain beside the one that is read: nothing tells which of two is meant. As much as the
    # preprocessing takes for a brain at least, and half of that. In the 144 heads of the cohort the
    # first look of the brain extraction saw none of 1 mL.
    Rule(
        flag="several_heads",
        figure="second_brain_ml",
        side="high",
        learnt="fixed",
        fixed=350.0,
        fixed_refusal=700.0,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Where a flag is raised.

    Parameters
    ----------
    flag, figure, side : str
        As in `Rule`.
    flag_at : float
        Beyond it the flag is raised; unit of the figure.
    refuse_at : float or None
        Beyond it no age is given.
    """

    flag: str
    figure: str
    side: Side
    flag_at: float
    refuse_at: float | None = None

    def _beyond(self, value: float, limit: float) -> bool:
        return value < limit if self.side == "low" else value > limit

    def flags(self, value: float) -> bool:
        """Tell whether a value is remarkable.

        Parameters
        ----------
        value : float
            In the unit of the figure.

        Returns
        -------
        bool
            Whether it lies beyond `flag_at`.
        """
        return self._beyond(value, self.flag_at)

    def refuses(self, value: float) -> bool:
        """Tell whether a value forbids an age.

        Parameters
        ----------
        value : float
            In the unit of the figure.

        Returns
        -------
        bool
            Whether it lies beyond `refuse_at`; never, where there is none.
        """
        return self.refuse_at is not None and self._beyond(value, self.refuse_at)


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """All limits, and where they come from.

    Parameters
    ----------
    limits : tuple of Limit
        In the order of `RULES`.
    provenance : dict
        Cohort, number of scans, preprocessing, command.
    """

    limits: tuple[Limit, ...]
    provenance: dict[str, Any]


def learn_limits(figures: Mapping[str, Array]) -> tuple[Limit, ...]:
    """Find the limits of a cohort.

    Parameters
    ----------
    figures : mapping of str to ndarray, shape (N,)
        Every figure that `RULES` name, of each scan; those that a fixed rule looks at and that
        refuse nothing may be absent.

    Returns
    -------
    tuple of Limit
    """
    return tuple(_learn(rule, figures) for rule in RULES)


def _learn(rule: Rule, figures: Mapping[str, Array]) -> Limit:
    sign = -1.0 if rule.side == "low" else 1.0
    refuse_at = rule.fixed_refusal
    if rule.refuses:
        worst = float((sign * figures[rule.figure]).max() * sign)
        if rule.perfect is not None:
            refuse_at = rule.perfect + REFUSED_RATIO * (worst - rule.perfect)
        else:
            refuse_at = worst / REFUSED_RATIO if rule.side == "low" else worst * REFUSED_RATIO
    if rule.learnt == "fixed":
        flag_at = rule.fixed
    elif rule.learnt == "mirror":
        flag_at = -float(figures[rule.figure].min()) / 2
    else:
        middle, tenth = np.quantile(sign * figures[rule.figure], [0.5, 0.9])
        flag_at = float(sign * (middle + DEVIATIONS * (tenth - middle) / TENTH_IN_SD))
    return Limit(
        flag=rule.flag, figure=rule.figure, side=rule.side, flag_at=flag_at, refuse_at=refuse_at
    )


def save_limits(path: Path, limits: QualityLimits) -> None:
    """Write limits as JSON, whole or not at all.

    Parameters
    ----------
    path : Path
        Where to.
    limits : QualityLimits
        All of them.
    """
    write_json(path, asdict(limits))


@cache
def load_limits(path: Path = LIMITS_FILE) -> QualityLimits:
    """Read limits.

    Parameters
    ----------
    path : Path
        As `save_limits` wrote it.

    Returns
    -------
    QualityLimits
        Read once a process.

    Raises
    ------
    UsageError
        If the file is missing, damaged or of other fields.
    """
    try:
        return from_plain(QualityLimits, json.loads(path.read_text(encoding="utf-8")))
    # TypeError: a number stands where a list is due.
    except (OSError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: must hold the quality limits; found {error}.") from error
