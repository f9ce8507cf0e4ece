"""The index of a cohort: one row a scan, sortable, with links to the reports."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ermoe_ba.io import write_text
from ermoe_ba.report.content import shown_flags
from ermoe_ba.report.page import PAGE_ROWS, environment, inline


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


def write_index(path: Path, title: str, rows: Sequence[IndexRow], quality_page: str | None) -> None:
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

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    ordered = sorted(rows, key=lambda row: (row.participant, row.session, row.name))
    page = environment().get_template("index.html.j2")
    write_text(
        path,
        page.render(
            **inline(("report.css",), ("sorting.js", "paged_list.js", "scan_list.js")),
            title=title,
            rows=ordered,
            count=len(ordered),
            page_rows=PAGE_ROWS,
            with_age=sum(row.ages[0] is not None for row in ordered),
            quality_page=quality_page,
        ),
    )
