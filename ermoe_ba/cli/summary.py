"""What is told of a batch at its end: ages, failures, where results are, and the exit code."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ermoe_ba.training_scans import SEEN, count_seen, seen_remark
from ermoe_ba.workers import Outcome


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return 0 where all scans are done, 1 where at least one failed or was refused.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of all scans.

    Returns
    -------
    int
        0 or 1.
    """
    return 0 if all(outcome.row["status"] == "ok" for outcome in outcomes) else 1


def _widened(row: dict[str, Any]) -> str:
    """Return what is said of an interval that was widened; nothing of any other."""
    factor = row.get("interval_widening") or 1.0
    return f", widened {factor:.2f} times" if factor > 1.0 else ""


def summarise(outcomes: Sequence[Outcome], coverage: float, tables: Sequence[Path]) -> None:
    """Tell ages, failures, what was seen in training, and where the results are.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of all scans.
    coverage : float
        Of the prediction interval, 0 to 1.
    tables : sequence of Path
        Where the rows stand.
    """
    rows: list[dict[str, Any]] = [outcome.row for outcome in outcomes]
    for row in rows:
        if row["status"] == "ok":
            print(
                f"{row['input']}: predicted brain age {row['predicted_age']:.1f} years "
                f"({coverage:.0%} interval {row['predicted_age_lower']:.1f} to "
                f"{row['predicted_age_upper']:.1f}{_widened(row)})"
            )
    for status in ("failed", "refused"):
        count = sum(row["status"] == status for row in rows)
        if count:
            word = f"scans {status}" if status == "failed" else f"scans were {status}"
            print(f"{count} of {len(rows)} {word}; see status and message in the table.")
    remark = seen_remark(count_seen(row.get(SEEN) for row in rows if row["status"] == "ok"))
    if remark:
        print(f"note    {remark}", file=sys.stderr)
    # Of a batch, the tables are the place to look; of one scan, each of its files.
    files = outcomes[0].written if len(rows) == 1 else ()
    print("\n".join(["Written:", *(f"  {path}" for path in (*tables, *files))]))
