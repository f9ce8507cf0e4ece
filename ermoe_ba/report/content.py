"""What a report is made of: plain values and volumes, nothing computed and nothing drawn."""

import math
from dataclasses import dataclass, field

import pandas as pd

from ermoe_ba.space import Array, Volume

REGION_COLUMNS = (
    "expert",
    "index",
    "region",
    "hemisphere",
    "volume_ml",
    "mean_weight",
    "load_share",
    "contribution_years",
)
# What people write in capitals.
ABBREVIATIONS = {"csf": "CSF", "gm": "GM", "wm": "WM", "id": "ID", "t1w": "T1w", "mri": "MRI"}


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedBrain:
    """A brain with the maps over it: what pictures and the interactive view are made of.

    Parameters
    ----------
    t1w : Volume
        float32, shape (I, J, K), on the model grid; white matter is 1.
    brain_mask : Volume
        uint8, shape (I, J, K); 1 in the brain.
    template : Volume
        uint8, shape (I, J, K); T1w of the template's brain, 0 outside it.
    atlas : Volume
        Label of each voxel, shape (I, J, K), 0 for none; those of the column ``index``.
    experts : Volume
        Routing weights, shape (I, J, K, E); they sum to 1 over the experts, or 0 outside tokens.
    expert_names : tuple of str
        E names, in the order of the last axis of `experts`.
    contributions : Volume
        Years per voxel, shape (I, J, K): of one scan positive where the brain looks older than the
        baseline; of a cohort, whatever its page says that they are.

    Raises
    ------
    ValueError
        If parts that belong together do not match.
    """

    t1w: Volume
    brain_mask: Volume
    template: Volume
    atlas: Volume
    experts: Volume
    expert_names: tuple[str, ...]
    contributions: Volume

    def __post_init__(self) -> None:
        others = (self.brain_mask, self.template, self.atlas, self.experts, self.contributions)
        for other in others:
            if other.grid != self.t1w.grid:
                raise ValueError("All volumes of a report must lie on the grid of its T1w image.")
        if self.experts.data.shape[3:] != (len(self.expert_names),):
            raise ValueError(
                f"There are {len(self.expert_names)} experts by name; found maps of shape "
                f"{self.experts.data.shape}."
            )
        if not self.brain_mask.data.any():
            raise ValueError("The brain mask is empty.")


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportContent(MappedBrain):
    """One scan's result, ready to be shown.

    Beside what `MappedBrain` holds of it:

    Parameters
    ----------
    name : str
        What the scan is called in the heading, e.g. ``sub-colin27``.
    row : dict
        The scan's row of ``predictions.tsv``; ages in years, None (or NaN) where unknown.
    baseline_years : float
        The age that the model starts from, before any part of the brain counts.
    expert_years : dict of str to float
        Years that each expert adds, summed over the brain.
    expert_load : dict of str to float
        Mean routing weight of each expert over the tokens, 0 to 1.
    model_mae : float or None
        Mean absolute error of the model in years, where it was measured with each expert removed.
    mae_without_expert : dict of str to float
        The same with this one expert removed; empty where it was not measured.
    mae_interfered : dict of str to float
        The same by what was done to all experts at once, as the model's card calls it; empty where
        it was not measured.
    regions : DataFrame
        One row per expert and region, with the columns `REGION_COLUMNS`.
    training_ages : ndarray, shape (n,)
        Chronological ages of the training participants in years.
    training_predictions : ndarray, shape (n,)
        Predicted ages of the same participants in years, each by a model that had not seen them.
    figures : dict of str to float
        Quality figures, e.g. ``brain_volume_ml`` and ``template_correlation``.
    provenance : dict of str to str
        What made this result.
    limits : tuple of str
        Sentences on what the result cannot say.
    coverage : float
        Share of people whose age the interval holds, between 0 and 1.

    Raises
    ------
    ValueError
        If there is no predicted age, or if parts that belong together do not match.
    """

    name: str
    row: dict[str, str | float | None]
    baseline_years: float
    expert_years: dict[str, float]
    expert_load: dict[str, float]
    model_mae: float | None
    mae_without_expert: dict[str, float]
    mae_interfered: dict[str, float] = field(default_factory=dict)
    regions: pd.DataFrame
    training_ages: Array
    training_predictions: Array
    figures: dict[str, float]
    provenance: dict[str, str]
    limits: tuple[str, ...]
    coverage: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.number("predicted_age") is None:
            raise ValueError(f"{self.name} has no predicted age: there is nothing to report.")
        told = {"Years": self.expert_years, "Loads": self.expert_load}
        if self.mae_without_expert:
            told["Errors without them"] = self.mae_without_expert
        for what, by_expert in told.items():
            if set(by_expert) != set(self.expert_names):
                raise ValueError(
                    f"{what} are due for the experts {self.expert_names}; found {tuple(by_expert)}."
                )
        if len(self.training_ages) != len(self.training_predictions):
            raise ValueError(
                f"Training ages and predictions must pair up; found {len(self.training_ages)} and "
                f"{len(self.training_predictions)}."
            )
        missing = [name for name in REGION_COLUMNS if name not in self.regions.columns]
        if missing:
            raise ValueError(f"The region table lacks the columns {missing}.")

    def number(self, column: str) -> float | None:
        """Return a number of the scan's row, or None where it is absent, n/a or not finite.

        Parameters
        ----------
        column : str
            Of ``predictions.tsv``.

        Returns
        -------
        float or None
            In the column's unit.
        """
        value = self.row.get(column)
        if value is None or value in ("", "n/a"):
            return None
        number = float(value)
        return number if math.isfinite(number) else None

    @property
    def predicted_age(self) -> float:
        """Predicted age in years."""
        age = self.number("predicted_age")
        assert age is not None
        return age

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the prediction interval in years, or None where the model gives none."""
        low, high = self.number("predicted_age_lower"), self.number("predicted_age_upper")
        return None if low is None or high is None else (low, high)


def shown_flags(qc_flags: str, seen_in_training: str) -> tuple[str, ...]:
    """Return the flags that a list of scans shows: of a scan's quality, and of its being known.

    Parameters
    ----------
    qc_flags, seen_in_training : str
        Cells of ``predictions.tsv``; empty where there is no value.

    Returns
    -------
    tuple of str
        Those of quality first.
    """
    known = {"yes": ("seen_in_training",), "name": ("name_in_training",)}.get(seen_in_training, ())
    return (*filter(None, qc_flags.split(";")), *known)


def in_words(identifier: str) -> str:
    """Turn an identifier such as ``grey_matter`` into words: ``Grey matter``.

    Parameters
    ----------
    identifier : str
        Parts joined by underscores.

    Returns
    -------
    str
        With a capital in front; known abbreviations as they are written.
    """
    parts = [ABBREVIATIONS.get(part, part) for part in identifier.split("_")]
    text = " ".join(parts).strip()
    # Only the first letter: capitals further on are somebody's abbreviation.
    return text[:1].upper() + text[1:]


def percent(share: float) -> str:
    """Write a share of 1 as a percentage.

    Parameters
    ----------
    share : float
        0 to 1.

    Returns
    -------
    str
        With up to six significant digits, and a space before the sign.
    """
    return f"{share * 100:g} %"


def signed(value: float, decimals: int = 1) -> str:
    """Write a number with its sign, the minus as a minus and not as a hyphen.

    Parameters
    ----------
    value : float
        In any unit.
    decimals : int
        Kept after the point, at least 0.

    Returns
    -------
    str
        ``±`` stands before what rounds to 0.
    """
    rounded = round(value, decimals) + 0.0
    sign = "+" if rounded > 0 else "−" if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.{decimals}f}"
