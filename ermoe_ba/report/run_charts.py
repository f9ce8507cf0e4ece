"""Charts of what a run recorded of itself: how training went, and what its experts are worth."""

import numpy as np
from matplotlib.figure import Figure

from ermoe_ba.evaluation import Evaluation
from ermoe_ba.evaluation.run_record import RunRecord
from ermoe_ba.report.content import in_words
from ermoe_ba.report.drawing import ACCENT, DASHED, INK, style, to_svg
from ermoe_ba.report.page import data_uri


def draw_experts(record: RunRecord) -> str:
    """Draw the error with the experts interfered with, as the run measured it.

    Parameters
    ----------
    record : RunRecord
        Whose metrics hold ``probe_mae`` and ``probe_mae_without_expert``, in years, and other such
        errors where known.

    Returns
    -------
    str
        SVG as data URI.
    """
    metrics = record.metrics
    bars = [
        (words, float(np.mean(metrics[key])))
        for key, words in (
            ("probe_mae_zeroed", "all experts silenced"),
            ("probe_mae_random_routing", "random routing"),
            ("probe_mae_other_subject_routing", "other people's routing"),
        )
        if key in metrics
    ]
    bars += [(f"without {name}", years) for name, years in errors_without_expert(record)]
    with style():
        figure = Figure(figsize=(7.2, 1.0 + 0.34 * len(bars)), layout="constrained")
        ax = figure.add_subplot()
        ax.barh(range(len(bars)), [years for _, years in bars], height=0.6, color=ACCENT)
        for place, (_, years) in enumerate(bars):
            ax.annotate(
                f"{years:.1f}", (years, place), (4, 0), textcoords="offset points", va="center"
            )
        ax.axvline(metrics["probe_mae"], color=INK, linestyle=DASHED, label="left as it is")
        ax.set_yticks(range(len(bars)), [words for words, _ in bars])
        ax.invert_yaxis()
        ax.set_xlabel("MAE (years)")
        figure.legend(loc="outside lower center", frameon=False, fontsize=9)
        return data_uri("image/svg+xml", to_svg(figure).encode())


def errors_without_expert(record: RunRecord) -> list[tuple[str, float]]:
    """Return the error without each expert.

    Parameters
    ----------
    record : RunRecord
        With ``probe_mae_without_expert`` among its metrics.

    Returns
    -------
    list of (str, float)
        Each expert's name, or number where it has none, and the MAE without it in years.

    Raises
    ------
    KeyError
        If that was not measured.
    """
    errors = record.metrics["probe_mae_without_expert"]
    named = len(record.expert_names) == len(errors)
    numbers = [f"expert {number}" for number in range(1, len(errors) + 1)]
    names = [in_words(name) for name in record.expert_names] if named else numbers
    return list(zip(names, map(float, errors), strict=True))


def draw_histories(evaluation: Evaluation) -> str:
    """Draw how training went: one panel a kind of figure, one line a training.

    Parameters
    ----------
    evaluation : Evaluation
        Whose record holds one history at least.

    Returns
    -------
    str
        SVG as data URI; steps across.
    """
    tables = evaluation.record.histories.values()
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    panels = {
        "Loss": [n for n in names if n == "loss"],
        "MAE (years)": [n for n in names if n.startswith("mae_")],
        "Expert load (share)": [n for n in names if "load" in n],
    }
    shown = {label: columns for label, columns in panels.items() if columns}
    looks = ("-", DASHED, "-.", ":")
    with style():
        figure = Figure(figsize=(7.2, 2.6 * max(1, len(shown))), layout="constrained")
        axes = np.atleast_1d(figure.subplots(max(1, len(shown)), sharex=True))
        for ax, (label, columns) in zip(axes, shown.items(), strict=False):
            for number, column in enumerate(columns):
                look = {"linestyle": looks[number % 4], "color": f"C{number}"}
                for table in tables:
                    if column in table:
                        known = table.dropna(subset=[column])
                        ax.plot(known["step"], known[column], linewidth=0.9, alpha=0.6, **look)
                ax.plot([], [], label=column.replace("_", " "), **look)
            ax.set_ylabel(label)
            if len(columns) > 1:
                ax.legend(frameon=False, fontsize=8, ncols=2)
        axes[-1].set_xlabel("Step")
        return data_uri("image/svg+xml", to_svg(figure).encode())
