"""Checks of the evidence, as tables and figures: experts used, maps learnt, experts specialised."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ermoe_ba.report.content import in_words
from ermoe_ba.report.drawing import ACCENT, FAINT, INK, OLDER, YOUNGER, style, to_png
from ermoe_ba.report.evidence import DPI
from ermoe_ba.report.experts import INTERFERED, WORTHLESS_YEARS
from ermoe_ba.space import Array

ALL = "zeroed"
# Networks of a trial in the order of their marks: told apart by shape and fill besides colour.
_NETWORKS = {
    "trained": ("trained", "o", ACCENT, ACCENT),
    "shuffled_ages": ("ages shuffled", "s", OLDER, "white"),
    "untrained": ("weights random", "D", YOUNGER, "white"),
}
_FIGURES = ("region", "tissue", "place")
_CHANCE = "_random_routing"
_EXPERTS = {
    "free_experts": "free experts",
    "regional_experts": "regional experts",
    "all_experts": "all experts",
    "softmax_all_experts": "softmax gate, all experts",
}
_DASHED = (0, (4, 3))


def experts_used(parts: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """Return what errors become when experts are removed or their routing is changed.

    Parameters
    ----------
    parts : mapping
        Cohort to what is known of its trial, with ``probe``: errors in years.
    names : sequence of str
        Of the experts, in the order of ``mae_without_expert``.

    Returns
    -------
    DataFrame
        ``cohort``, ``change`` (``without_<expert>`` or as in `INTERFERED`), ``mae`` with it, and
        ``mae_lost``, by how much the error grows; years.
    """
    rows = []
    for cohort, part in parts.items():
        probe = part["probe"]
        told = {f"without_{n}": v for n, v in zip(names, probe["mae_without_expert"], strict=True)}
        # A list has one figure a layer, and there is one layer.
        told |= {name: float(np.mean(probe[f"mae_{name}"])) for name in INTERFERED}
        rows += [
            {"cohort": cohort, "change": change, "mae": mae, "mae_lost": mae - probe["mae"]}
            for change, mae in told.items()
        ]
    return pd.DataFrame(rows)


def sanity(parts: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return how trained maps stand against those of networks that know nothing of ages.

    Parameters
    ----------
    parts : mapping
        Cohort to what is known of its trial, with ``maps`` and ``agreement_of_halves``.

    Returns
    -------
    DataFrame
        One row a cohort and network: ``enrichment`` and ``token_auc`` in the planted region, the
        least and the greatest over a network's draws, and ``like_trained``: the rank correlation
        with the trained map; of the trained one, that between its halves of the subjects.
    """
    rows = []
    for cohort, part in parts.items():
        for network in _NETWORKS:
            figures = part["maps"][network]
            own = part["agreement_of_halves"] if network == "trained" else figures["like_trained"]
            row = {"cohort": cohort, "network": network, "like_trained": own}
            for name in ("enrichment", "token_auc"):
                row[name] = figures[name]
                for end in (f"{name}_least", f"{name}_most"):
                    # A single draw has no range but itself.
                    row[end] = figures[name] if figures[end] is None else figures[end]
            rows.append(row)
    return pd.DataFrame(rows)


def emergence(parts: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return what experts' names tell of anatomy, beside what chance tells.

    Parameters
    ----------
    parts : mapping
        Parts of a run, each with ``specialisation``; a later one counts before an earlier.

    Returns
    -------
    DataFrame
        One row a kind of experts: ``experts``, ``networks`` and, shares of the experts' entropy
        from 0 to 1, ``region``, ``tissue`` and ``place``, with the least and the greatest over the
        networks; the same of random routing as ``chance_…``, not a number where there is none.
    """
    told: dict[str, Mapping[str, float]] = {}
    for part in parts.values():
        # The first part of a run rests on all of its networks.
        told = {**part["specialisation"], **told}
    ends = [f"{figure}{end}" for figure in _FIGURES for end in ("", "_least", "_most")]
    rows = []
    for experts in (name for name in _EXPERTS if name in told):
        chance = told.get(f"{experts}{_CHANCE}", {})
        row = {"experts": experts, "networks": told[experts]["networks"]}
        row |= {name: told[experts][name] for name in ends}
        rows.append({**row, **{f"chance_{name}": chance.get(name, np.nan) for name in ends}})
    return pd.DataFrame(rows)


def draw_experts_used(table: pd.DataFrame) -> bytes:
    """Draw by how much errors grow when experts are removed or their routing is changed.

    Parameters
    ----------
    table : DataFrame
        From `experts_used`.

    Returns
    -------
    bytes
        PNG: a line a cohort, years across; on the right, on a scale of its own, all experts
        silenced. Dashed: the growth from which on an expert counts as used.
    """
    cohorts = list(dict.fromkeys(table["cohort"]))
    words = {name: said.removeprefix("with ") for name, said in INTERFERED.items()}
    changes = list(dict.fromkeys(table["change"]))
    looks = zip("o^v<>PX*d", (ACCENT, OLDER, YOUNGER, INK, FAINT) * 2, strict=False)
    with style():
        figure = Figure(figsize=(10.5, 1.9 + 0.5 * len(cohorts)), layout="constrained", dpi=DPI)
        each, silenced = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        shown = [change for change in changes if change != ALL]
        step = 0.7 / max(1, len(shown) - 1)
        for number, (change, (marker, colour)) in enumerate(zip(shown, looks, strict=False)):
            some = table[table["change"] == change]
            # Without an expert filled, changed routing hollow; set apart, so that none hides.
            level = [cohorts.index(c) - 0.35 + step * number for c in some["cohort"]]
            each.scatter(
                some["mae_lost"],
                level,
                marker=marker,
                color=colour,
                facecolors="white" if change in INTERFERED else colour,
                label=words.get(change, in_words(change)),
                zorder=3,
            )
        some = table[table["change"] == ALL]
        level = [cohorts.index(c) for c in some["cohort"]]
        silenced.scatter(some["mae_lost"], level, marker="s", color=INK, label=words[ALL])
        for ax in (each, silenced):
            ax.axvline(0, color=FAINT, linewidth=0.8)
            mark = f"mark: {WORTHLESS_YEARS:g} years" if ax is each else None
            ax.axvline(WORTHLESS_YEARS, color=INK, linewidth=1, linestyle=_DASHED, label=mark)
            ax.set_xlabel("growth of the MAE (years)")
        _name_lines(each, cohorts)
        figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=5)
        return to_png(figure)


def draw_sanity(table: pd.DataFrame, *, enrichment_ratio: float, token_auc: float) -> bytes:
    """Draw trained maps beside those of random weights and of shuffled ages.

    Parameters
    ----------
    table : DataFrame
        From `sanity`.
    enrichment_ratio : float
        Mark of the trained enrichment, a multiple of the random weights'.
    token_auc : float
        Mark of the trained AUC.

    Returns
    -------
    bytes
        PNG: a line a cohort; enrichment, AUC over tokens and rank correlation with the trained map
        (of the trained one, between halves of the subjects), with ranges over draws. Dashed: the
        marks.
    """
    cohorts = list(dict.fromkeys(table["cohort"]))
    with style():
        figure = Figure(figsize=(10.5, 1.7 + 0.5 * len(cohorts)), layout="constrained", dpi=DPI)
        enriched, auc, alike = figure.subplots(1, 3, sharey=True)
        for shift, (network, look) in zip((-0.22, 0.0, 0.22), _NETWORKS.items(), strict=True):
            some = table[table["network"] == network]
            level = np.array([cohorts.index(c) for c in some["cohort"]]) + shift
            _points(enriched, some, "enrichment", level, look)
            _points(auc, some, "token_auc", level, look)
            _points(alike, some, "like_trained", level, look)
        untrained = table[table["network"] == "untrained"]
        for cohort, value in zip(untrained["cohort"], untrained["enrichment"], strict=True):
            place = cohorts.index(cohort)
            enriched.vlines(enrichment_ratio * value, place - 0.4, place + 0.4, INK, _DASHED)
        auc.axvline(token_auc, color=INK, linestyle=_DASHED)
        # A line of its own for the legend: marks of enrichment are one a cohort.
        enriched.plot([], [], color=INK, linestyle=_DASHED, label="mark to be reached")
        _logarithmic(enriched)
        enriched.set_xlabel(f"enrichment (mark: {enrichment_ratio:g} times random weights)")
        auc.set_xlabel(f"AUC over tokens (mark: {token_auc:g})")
        alike.set_xlabel("rank correlation with the trained map")
        alike.axvline(0, color=FAINT, linewidth=0.8)
        _name_lines(enriched, cohorts)
        handles = enriched.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", frameon=False, fontsize=8, ncols=4)
        return to_png(figure)


def draw_emergence(table: pd.DataFrame) -> bytes:
    """Draw what experts' names tell of anatomy, beside chance.

    Parameters
    ----------
    table : DataFrame
        From `emergence`.

    Returns
    -------
    bytes
        PNG: a line a kind of experts, a column each for region, tissue and place; shares of the
        experts' entropy on a logarithmic scale, with ranges over networks. The mark to be reached
        is the greatest of random routing.
    """
    names = [_EXPERTS[name] for name in table["experts"]]
    level: Array = np.arange(len(names), dtype=float)
    with style():
        figure = Figure(figsize=(10.5, 1.7 + 0.5 * len(names)), layout="constrained", dpi=DPI)
        axes = figure.subplots(1, len(_FIGURES), sharey=True)
        for ax, name in zip(axes, _FIGURES, strict=True):
            _points(ax, table, name, level - 0.12, ("as routed", "o", ACCENT, ACCENT))
            _points(ax, table, f"chance_{name}", level + 0.12, ("at random", "s", OLDER, "white"))
            for place, most in zip(level, table[f"chance_{name}_most"], strict=True):
                ax.vlines(most, place - 0.35, place + 0.35, INK, _DASHED)
            _logarithmic(ax)
            ax.set_xlabel(f"told of the {name} (share of entropy)")
        axes[0].plot([], [], color=INK, linestyle=_DASHED, label="mark: the most that chance told")
        _name_lines(axes[0], names)
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", frameon=False, fontsize=8, ncols=3)
        return to_png(figure)


def _points(
    ax: Axes, table: pd.DataFrame, name: str, level: Array, look: tuple[str, str, str, str]
) -> None:
    """Draw values with their ranges, where there are any."""
    words, marker, colour, fill = look
    if f"{name}_most" in table:
        ax.hlines(level, table[f"{name}_least"], table[f"{name}_most"], colors=colour, linewidth=1)
    ax.scatter(table[name], level, marker=marker, color=colour, facecolors=fill, label=words)


def _logarithmic(ax: Axes) -> None:
    """Set a logarithmic scale with as many numbers as have room, once all is drawn."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 3)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _name_lines(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), [in_words(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
