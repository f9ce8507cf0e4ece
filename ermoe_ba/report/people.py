"""The people of a cohort on its page: their ages among those trained on, flags, experts' loads."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ermoe_ba.report.age_points import AgePoints
from ermoe_ba.report.content import in_words, shown_flags
from ermoe_ba.report.drawing import ACCENT, INK, OLDER, style, to_svg
from ermoe_ba.report.page import data_uri
from ermoe_ba.space import Array

# Bars of the histograms: few enough that each holds some people of a small cohort.
NUM_BARS = 20


@dataclass(frozen=True)
class PersonRow:
    """One participant in the list.

    Parameters
    ----------
    name : str
        Of the participant, without ``sub-``.
    scans : int
        How many of them count.
    ages : tuple of float or None
        Predicted age, ends of its interval, chronological age and gap, in years.
    flags : tuple of str
        Of the scans' quality, and whether the model had seen them.
    """

    name: str
    scans: int
    ages: tuple[float | None, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True)
class People:
    """The participants of a cohort, and those that its model was trained on.

    Parameters
    ----------
    table : DataFrame
        ``participants.tsv`` of the maps.
    training : DataFrame or None
        ``chronological_age`` and ``predicted_age`` of the training participants in years, each
        predicted by models that had not seen that person; None where they are not known, or the
        cohort is theirs.
    """

    table: pd.DataFrame
    training: pd.DataFrame | None

    @property
    def rows(self) -> list[PersonRow]:
        """The participants in the order of their names."""
        columns = (
            *("predicted_age", "predicted_age_lower", "predicted_age_upper"),
            *("chronological_age", "brain_age_gap"),
        )
        return [
            PersonRow(
                name=record["participant_id"],
                scans=record["scans"],
                ages=tuple(record[c] if np.isfinite(record[c]) else None for c in columns),
                flags=_flags(record["qc_flags"], record["seen_in_training"]),
            )
            for record in self.table.sort_values("participant_id").to_dict("records")
        ]

    @property
    def flag_counts(self) -> list[tuple[str, int]]:
        """Each flag and of how many participants it is, the most frequent first."""
        flags = (flag for row in self.rows for flag in row.flags)
        return sorted(Counter(flags).items(), key=lambda both: (-both[1], both[0]))

    @property
    def flagged(self) -> int:
        """How many participants have a flag."""
        return sum(bool(row.flags) for row in self.rows)

    @property
    def gap(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the gap in years; None where fewer than two are known."""
        known = self.table["brain_age_gap"].dropna()
        return (float(known.mean()), float(known.std())) if len(known) > 1 else None

    @property
    def inside(self) -> tuple[int, int]:
        """Of how many participants the interval holds the age, and of how many both are known."""
        age = self.table["chronological_age"]
        low, high = self.table["predicted_age_lower"], self.table["predicted_age_upper"]
        known = age.notna() & low.notna() & high.notna()
        return int(((low <= age) & (age <= high) & known).sum()), int(known.sum())

    def points(self, interval: str) -> AgePoints:
        """Return the participants' ages as points of a chart, in the order of `rows`.

        Parameters
        ----------
        interval : str
            What the intervals are called, such as ``90 % interval``.

        Returns
        -------
        AgePoints
            Over those of the training participants.
        """
        rows = self.rows
        ages = np.array([row.ages for row in rows], dtype=float).reshape(-1, 5)
        return AgePoints(
            what="participants",
            interval=interval,
            predicted=ages[:, 0],
            lower=ages[:, 1],
            upper=ages[:, 2],
            chronological=ages[:, 3],
            flagged=np.array([bool(row.flags) for row in rows], dtype=bool),
            training=None
            if self.training is None
            else (
                self.training["chronological_age"].to_numpy(),
                self.training["predicted_age"].to_numpy(),
            ),
        )

    def draw_gaps(self) -> str:
        """Draw how often each gap occurs, here and among the training participants.

        Returns
        -------
        str
            SVG as data URI: years across, share of people up; of predicted ages where fewer than
            two gaps are known.
        """
        with style():
            figure = Figure(figsize=(6.2, 6.2), layout="constrained")
            self._plot_gaps(figure.add_subplot())
            figure.legend(loc="outside lower center", frameon=False, fontsize=9)
            return data_uri("image/svg+xml", to_svg(figure).encode())

    def _plot_gaps(self, ax: Axes) -> None:
        column, words = "brain_age_gap", "Brain age gap (years), uncorrected"
        if self.gap is None:
            column, words = "predicted_age", "Predicted age (years), uncorrected"
        own = self.table[column].dropna().to_numpy()
        others: Array = np.empty(0)
        if self.training is not None:
            others = self.training["predicted_age"].to_numpy()
            if self.gap is not None:
                others = others - self.training["chronological_age"].to_numpy()
        edges = np.histogram_bin_edges(np.concatenate([own, others]), NUM_BARS)

        def shares(values: Array) -> Array:
            return np.asarray(100 * np.histogram(values, edges)[0] / max(1, len(values)))

        ax.stairs(shares(own), edges, fill=True, color=ACCENT, alpha=0.45, label="participants")
        if len(others):
            ax.stairs(
                shares(others), edges, color=INK, linestyle="--", label="training participants"
            )
        ax.axvline(
            float(own.mean()),
            color=OLDER,
            linewidth=2,
            label=f"mean {own.mean():.1f} years".replace("-", "−"),
        )
        ax.set(xlabel=words, ylabel="Share of people (%)")


def draw_loads(experts: pd.DataFrame) -> str:
    """Draw the experts' loads over a cohort.

    Parameters
    ----------
    experts : DataFrame
        ``expert``, ``kind``, ``load`` and ``load_sd``, shares of 1 (the standard deviation between
        participants, not a number where there is one alone).

    Returns
    -------
    str
        SVG as data URI: a bar an expert with its spread, shares in per cent; free experts are
        hatched.
    """
    loads = 100 * experts["load"].to_numpy(dtype=float)
    spread = 100 * experts["load_sd"].fillna(0).to_numpy(dtype=float)
    with style():
        figure = Figure(figsize=(7.2, 1.1 + 0.36 * len(experts)), layout="constrained")
        ax = figure.add_subplot()
        for kind, hatch in (("regional", ""), ("free", "///")):
            chosen = (experts["kind"] == kind).to_numpy()
            if chosen.any():
                ax.barh(
                    np.flatnonzero(chosen),
                    loads[chosen],
                    xerr=spread[chosen],
                    height=0.6,
                    color=ACCENT,
                    alpha=0.75,
                    edgecolor="white",
                    hatch=hatch,
                    ecolor=INK,
                    capsize=3,
                    label=f"{kind} experts",
                )
        even = 100 / len(experts)
        ax.axvline(even, color=INK, linestyle="--", linewidth=1, label=f"even: {even:.0f} %")
        ax.set_yticks(range(len(experts)), [in_words(name) for name in experts["expert"]])
        for text in ax.get_yticklabels():
            text.set_parse_math(False)
        ax.invert_yaxis()
        ax.set(xlabel="Load (% of the brain), mean and standard deviation between participants")
        ax.set_xlim(0, None)
        figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=3)
        return data_uri("image/svg+xml", to_svg(figure).encode())


def _flags(qc_flags: str, seen_in_training: str) -> tuple[str, ...]:
    return shown_flags("" if qc_flags == "n/a" else qc_flags, seen_in_training)
