"""The page of a batch: one row a scan, with its picture, flags and age; one file, in pages."""

import base64
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ermoe_ba.io import write_whole
from ermoe_ba.report.content import shown_flags
from ermoe_ba.report.page import PAGE_ROWS, environment, inline

_COLUMNS = (
    "status",
    "qc_flags",
    "seen_in_training",
    "predicted_age",
    "chronological_age",
    "brain_age_gap",
    "message",
)


class QualityPage:
    """Collects the rows of a batch on disk, so that memory does not grow with it.

    Parameters
    ----------
    title : str
        Heading of the page.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        # The spool lives as long as this object, which closes it; it has no name to leave behind.
        self._spool = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._places: dict[int, int] = {}

    def __enter__(self) -> "QualityPage":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spool.close()

    def add(self, number: int, row: dict[str, Any], thumbnail: bytes) -> None:
        """Add a scan.

        Parameters
        ----------
        number : int
            Its place among the inputs.
        row : dict
            Its row of ``predictions.tsv``.
        thumbnail : bytes
            PNG; may be empty.
        """
        kept = {name: row.get(name) for name in _COLUMNS}
        name = "_".join(str(row[k]) for k in ("participant_id", "session_id") if row.get(k))
        # Runs of one session have one name, and files of their own.
        file = Path(row.get("input") or "").name
        picture = base64.b64encode(thumbnail).decode()
        self._places[number] = self._spool.seek(0, 2)
        told = {**kept, "name": name, "file": file, "picture": picture}
        self._spool.write(json.dumps(told) + "\n")

    def write(self, path: Path) -> None:
        """Write the page in the order of the inputs, row by row, whole or not at all.

        Parameters
        ----------
        path : Path
            Of the page; replaced where it exists.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        parts = (
            environment()
            .get_template("quality_page.html.j2")
            .generate(
                **inline(
                    ("report.css", "scan_list.css"), ("sorting.js", "paged_list.js", "scan_list.js")
                ),
                title=self.title,
                count=len(self._places),
                page_rows=PAGE_ROWS,
                rows=self._rows(),
            )
        )

        def write(partial: Path) -> None:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(parts)

        write_whole(path, write)

    def _rows(self) -> Iterator[dict[str, Any]]:
        for number in sorted(self._places):
            self._spool.seek(self._places[number])
            row = json.loads(self._spool.readline())
            for name in ("predicted_age", "chronological_age", "brain_age_gap"):
                value = row[name]
                row[name] = value if value is not None and math.isfinite(value) else None
            row["flags"] = shown_flags(row["qc_flags"] or "", row["seen_in_training"] or "")
            yield row
