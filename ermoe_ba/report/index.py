"""The index of a cohort: one row a scan, sortable, with links to the reports."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from ermoe_ba.io import write_text
from ermoe_ba.report.age_points import AgePoints
from ermoe_ba.report.age_points_chart import draw_age_points
from ermoe_ba.report.content import percent, shown_flags
from ermoe_ba.report.page import PAGE_ROWS, environment, inline

if TYPE_CHECKING:
    # It brings torch along, which the report does without.
    from ermoe_ba.model_card import ModelCard


@dataclass(frozen=True)
class IndexRow:
    """One scan of a cohort.

    Parameters
    ----------
    name : str
        What it is called.
    link : str or None
        Of its report, from the index; None where there is none.
    participant, session, status, message : str
        As in ``predictions.tsv``; empty where n/a.
    flags : tuple of str
        Of its quality, and whether the model had seen it.
    ages : tuple of float or None
        Predicted age, ends of its interval, chronological age and gap, in years.
    """

    name: str
    link: str | None
    participant: str
    session: str
    status: str
    message: str
    flags: tuple[str, ...]
    ages: tuple[float | None, ...]

    @classmethod
    def of(cls, row: dict[str, Any], name: str, report: str | None) -> "IndexRow":
        """Make a row of one of ``predictions.tsv``, or of what ``prediction.json`` holds.

        Parameters
        ----------
        row : dict
            By column; numbers may be text.
        name : str
            What the scan is called.
        report : str or None
            Path of its report from the folder of the index, with slashes.

        Returns
        -------
        IndexRow
        """

        def text(column: str) -> str:
            value = row.get(column)
            return "" if value in (None, "n/a") else str(value)

        def number(column: str) -> float | None:
            value = float(text(column) or math.nan)
            return value if math.isfinite(value) else None

        return cls(
            name=name,
            link=None if report is None else quote(report),
            participant=text("participant_id"),
            session=text("session_id"),
            status=text("status"),
            message=text("message"),
            flags=shown_flags(text("qc_flags"), text("seen_in_training")),
            ages=tuple(
                number(column)
                for column in (
                    "predicted_age",
                    "predicted_age_lower",
                    "predicted_age_upper",
                    "chronological_age",
                    "brain_age_gap",
                )
            ),
        )


def write_index(
    path: Path,
    title: str,
    rows: Sequence[IndexRow],
    quality_page: str | None,
    card: "ModelCard | None" = None,
) -> None:
    """Write the index of a cohort, whole or not at all.

    Parameters
    ----------
    path : Path
        Where the HTML file shall stand: links are counted from its folder.
    title : str
        What the cohort is called.
    rows : sequence of IndexRow
        In any order; the page starts sorted by participant, with the first `PAGE_ROWS`.
    quality_page : str or None
        Name of the page of quality control beside it.
    card : ModelCard or None, optional
        Of the model that predicted all rows; None where it is not known, or there are several.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    ordered = sorted(rows, key=lambda row: (row.participant, row.session, row.name))
    points = _points(ordered, card)
    flags = Counter(flag for row in ordered for flag in row.flags)
    page = environment().get_template("index.html.j2")
    write_text(
        path,
        page.render(
            **inline(
                ("report.css", "scan_list.css", "age_points.css"),
                ("sorting.js", "paged_list.js", "age_points.js", "index.js"),
            ),
            title=title,
            rows=ordered,
            points=points,
            chart=draw_age_points(points) if points.drawable else None,
            places=points.places() if points.drawable else None,
            count=len(ordered),
            page_rows=PAGE_ROWS,
            with_age=sum(row.ages[0] is not None for row in ordered),
            statuses=sorted(Counter(row.status or "unknown" for row in ordered).items()),
            flag_counts=sorted(flags.items(), key=lambda both: (-both[1], both[0])),
            flagged=sum(bool(row.flags) for row in ordered),
            quality_page=quality_page,
        ),
    )


def _points(rows: Sequence[IndexRow], card: "ModelCard | None") -> AgePoints:
    ages = np.array([row.ages for row in rows], dtype=float).reshape(-1, 5)
    return AgePoints(
        what="scans",
        interval="prediction interval" if card is None else f"{percent(card.coverage)} interval",
        predicted=ages[:, 0],
        lower=ages[:, 1],
        upper=ages[:, 2],
        chronological=ages[:, 3],
        flagged=np.array([bool(row.flags) for row in rows], dtype=bool),
        training=None if card is None else (np.array(card.ages), np.array(card.predictions)),
    )
