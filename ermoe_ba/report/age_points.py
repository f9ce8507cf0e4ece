"""Where the points of a cohort's ages stand on the chart of them: one point a row of its list."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ermoe_ba.space import Array

# Inches: sides of the square of both ages, and what lies around it.
SIDE, LEFT, ABOVE, RIGHT = 5.2, 0.75, 0.15, 0.15
# Inches below the panels: the axis, and a line of the legend.
AXIS, LEGEND_LINE = 0.65, 0.2
# Inches: the gap beside the square, and the strip of those whose age is not known: where that of
# others is, where that of nobody is, and where there is no square.
BETWEEN, STRIP, STRIP_OF_ALL, STRIP_ALONE = 0.15, 1.5, 3.0, 5.2
# Height of the row of those without a predicted age, as a share of the range of ages.
ROW = 0.07
# Ages from which and to which the chart reaches are multiples of this many years.
STEP = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class AgePoints:
    """Ages of the rows of a list, and where each stands on their chart.

    Rows of known age stand in a square of both ages; the others in a strip beside it, by predicted
    age; those without a predicted age in a row below.

    Parameters
    ----------
    what : str
        What the rows are, such as ``scans``.
    interval : str
        What the intervals are called, such as ``90 % interval``.
    predicted, lower, upper : ndarray, shape (n,)
        Predicted age and the ends of its interval in years, not a number where there is none.
    chronological : ndarray, shape (n,)
        Age in years, not a number where it is not known.
    flagged : ndarray of bool, shape (n,)
        Whether the row has flags.
    training : tuple of ndarray or None
        Chronological and predicted ages of those that the model was trained on, in years, each
        predicted without having been seen; None where they are not known.
    """

    what: str
    interval: str
    predicted: Array
    lower: Array
    upper: Array
    chronological: Array
    flagged: Array
    training: tuple[Array, Array] | None

    @property
    def drawable(self) -> bool:
        """Whether any row has a predicted age: without one there is nothing to see."""
        return bool(np.isfinite(self.predicted).any())

    @property
    def known(self) -> Array:
        """Whether the age of each row is known: bool, shape (n,)."""
        return np.isfinite(self.chronological)

    @property
    def without_age(self) -> Array:
        """Whether each row lacks a predicted age: bool, shape (n,)."""
        return ~np.isfinite(self.predicted)

    @property
    def with_interval(self) -> Array:
        """Whether each row has an interval: bool, shape (n,)."""
        with_ends = np.isfinite(self.lower) & np.isfinite(self.upper)
        return np.asarray(np.isfinite(self.predicted) & with_ends)

    @cached_property
    def legend(self) -> dict[str, str]:
        """What is said of each kind of mark that the chart holds, in the legend's order."""
        others = 0 if self.training is None else len(self.training[0])
        there = ~self.without_age
        counts = {
            "training": (others, "trained on, left out when predicted"),
            "interval": (int(self.with_interval.sum()), f"{self.interval} of each"),
            "plain": (int((there & ~self.flagged).sum()), self.what),
            "flagged": (int((there & self.flagged).sum()), f"{self.what} with flags"),
            "none": (int(self.without_age.sum()), f"{self.what} without a predicted age"),
        }
        return {
            kind: words if kind == "interval" else f"{words} (n = {count:,})"
            for kind, (count, words) in counts.items()
            if count
        }

    @cached_property
    def range(self) -> tuple[float, float]:
        """Ages from which and to which the chart reaches, in years."""
        parts = (self.predicted, self.lower, self.upper, self.chronological)
        ages = np.concatenate([*parts, *(self.training or ())])
        ages = ages[np.isfinite(ages)]
        low = float(np.floor(ages.min() / STEP) * STEP)
        # One age alone, of a whole number of steps, still needs a range to lie in.
        return low, max(float(np.ceil(ages.max() / STEP) * STEP), low + STEP)

    @cached_property
    def bottom(self) -> float:
        """Where the panels end below, in years: room for those without a predicted age."""
        low, high = self.range
        return low - ROW * (high - low) if self.without_age.any() else low

    @property
    def row(self) -> float:
        """Where those without a predicted age stand, in years."""
        return (self.range[0] + self.bottom) / 2

    @property
    def up(self) -> Array:
        """Height at which each row stands, in years: shape (n,)."""
        return np.where(self.without_age, self.row, self.predicted)

    @cached_property
    def across(self) -> Array:
        """Place of each row in its panel, 0 to 1 from the left: shape (n,)."""
        low, high = self.range
        across = (self.chronological - low) / (high - low)
        unknown = np.flatnonzero(~self.known)
        # Not a number is sorted last: those without a predicted age.
        order = unknown[np.argsort(self.predicted[unknown], kind="stable")]
        across[order] = (np.arange(len(order)) + 0.5) / max(1, len(order))
        return across

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture in inches."""
        panels = [box for box in (self.square, self.strip) if box is not None]
        return (
            max(left + width for left, width in panels) + RIGHT,
            ABOVE + self.height + AXIS + len(self.legend) * LEGEND_LINE,
        )

    @property
    def height(self) -> float:
        """Height of the panels in inches."""
        low, high = self.range
        return SIDE * (high - self.bottom) / (high - low)

    @property
    def square(self) -> tuple[float, float] | None:
        """Left end and width in inches of the panel of known ages; None where there is none."""
        return (LEFT, SIDE) if self.known.any() or self.training is not None else None

    @property
    def strip(self) -> tuple[float, float] | None:
        """Left end and width in inches of the panel of the others; None where there is none."""
        if self.known.all():
            return None
        if self.square is None:
            return LEFT, STRIP_ALONE
        return LEFT + SIDE + BETWEEN, STRIP if self.known.any() else STRIP_OF_ALL

    def places(self) -> Array:
        """Return where each row's point stands on the picture.

        Returns
        -------
        ndarray, shape (n, 2)
            Shares of its width from the left, and of its height from above.
        """
        width, height = self.size
        places = np.empty((len(self.predicted), 2))
        for box, rows in ((self.square, self.known), (self.strip, ~self.known)):
            if box is not None:
                places[rows, 0] = (box[0] + box[1] * self.across[rows]) / width
        share = (self.range[1] - self.up) / (self.range[1] - self.bottom)
        places[:, 1] = (ABOVE + self.height * share) / height
        return places
