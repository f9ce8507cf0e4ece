"""The page on a cohort's predicted ages: one file that can be read anywhere."""

import math
from pathlib import Path
from typing import Any

from ermoe_ba.evaluation import Evaluation
from ermoe_ba.evaluation.bootstrap import Estimate
from ermoe_ba.io import write_text
from ermoe_ba.report.cohort_charts import (
    draw_ages,
    draw_coverage,
    draw_gaps,
    draw_learning_curve,
)
from ermoe_ba.report.content import percent, signed
from ermoe_ba.report.page import environment, inline
from ermoe_ba.report.run_charts import draw_experts, draw_histories, errors_without_expert
from ermoe_ba.training_scans import SEEN, seen_remark

# Figures in the order of their rows: name, unit, decimals, whether the sign is told.
_FIGURES = {
    "mae": ("Mean absolute error (MAE)", " years", 2, False),
    "rmse": ("Root mean square error (RMSE)", " years", 2, False),
    "r2": ("Coefficient of determination R²", "", 3, False),
    "r": ("Correlation r", "", 3, False),
    "bias": ("Mean gap", " years", 2, True),
    "gap_slope": ("Slope of the gap on age", " years a year", 3, True),
}
_PROBED = {
    "probe_load_gini": "Gini coefficient of the experts' load (0: even)",
    "probe_dead_experts": "Experts without load, mean over members",
    "probe_threshold_fallback_share": "Share of tokens that no expert was eligible for",
}


def write_cohort_page(path: Path, evaluation: Evaluation, title: str) -> None:
    """Write the page on an evaluation, whole or not at all.

    Parameters
    ----------
    path : Path
        Where the HTML file shall stand.
    evaluation : Evaluation
        What it shows.
    title : str
        What the predictions are called in the heading.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    templates = environment()
    templates.filters |= {
        "estimate": _estimate,
        "percent": percent,
        "share": _share,
    }
    details, run = evaluation.metrics["evaluation"], evaluation.record.metrics
    write_text(
        path,
        templates.get_template("cohort_page.html.j2").render(
            title=title,
            **inline(("report.css",), ()),
            metrics=evaluation.metrics,
            details=details,
            seen=seen_remark(details[SEEN]) if details[SEEN] else "",
            overall=[
                (words, _estimate(details["accuracy"]["overall"][key], decimals, signs) + unit)
                for key, (words, unit, decimals, signs) in _FIGURES.items()
            ],
            groups=[
                (words, details["accuracy"][key])
                for key, words in (
                    ("by_decade", "Decade of age"),
                    ("by_sex", "Sex"),
                    ("by_site", "Site"),
                )
                if key in details["accuracy"]
            ],
            decade_coverage=_decade_coverage(details["prediction_intervals"]),
            run=run,
            without=errors_without_expert(evaluation.record) if _probes(run) else [],
            probed=[(words, _plain(run[key])) for key, words in _PROBED.items() if key in run],
            num_histories=len(evaluation.record.histories),
            images=_images(evaluation),
        ),
    )


def _images(evaluation: Evaluation) -> dict[str, str]:
    details, run = evaluation.metrics["evaluation"], evaluation.record.metrics
    intervals = details["prediction_intervals"]
    images = {"ages": draw_ages(evaluation.rows), "gaps": draw_gaps(evaluation.rows)}
    if intervals["local"]:
        images["coverage"] = draw_coverage(intervals)
    if details["learning_curve"]:
        images["learning_curve"] = draw_learning_curve(details["learning_curve"])
    if _probes(run):
        images["experts"] = draw_experts(evaluation.record)
    if evaluation.record.histories:
        images["histories"] = draw_histories(evaluation)
    return images


def _probes(run: dict[str, Any]) -> bool:
    """Tell whether a run measured what its experts are worth."""
    return "probe_mae" in run and "probe_mae_without_expert" in run


def _decade_coverage(intervals: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return for each decade its part of each level of the local intervals."""
    levels = intervals["local"]
    if not levels:
        return []
    names = [group["group"] for group in levels[0]["by_decade"]]
    return [(n, [lv["by_decade"][place] for lv in levels]) for place, n in enumerate(names)]


def _estimate(found: Estimate, decimals: int = 1, signs: bool = False) -> str:
    """Write a figure with its interval: ``5.0 (4.3 to 5.7)``; undefined as n/a."""

    def number(value: float) -> str:
        return signed(value, decimals) if signs else f"{value:.{decimals}f}".replace("-", "−")

    value, low, high = found["value"], found["lower"], found["upper"]
    if value is None:
        return "n/a"
    if low is None or high is None:
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


def _share(found: Estimate) -> str:
    """Write a share of 1 with its interval in per cent."""
    value, low, high = (
        None if part is None else 100 * part
        for part in (found["value"], found["lower"], found["upper"])
    )
    return _estimate(Estimate(value=value, lower=low, upper=high), 1) + " %"


def _plain(value: Any) -> str:
    """Write a figure of the run, or its list over layers."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{v:.3g}" if math.isfinite(v) else "n/a" for v in values)
