"""What the Snakefile sets, which other recipes for clusters must agree with."""

import re
from pathlib import Path

PIPELINES = Path(__file__).parents[1] / "pipelines"


def snakefile_number(name: str) -> int:
    """Return a number that the Snakefile sets."""
    text = (PIPELINES / "Snakefile").read_text(encoding="utf-8")
    # Several may be set in one line: names and values stand in the same order.
    for names, values in re.findall(r"^([A-Z_, ]+) = ([\d, ]+)$", text, re.M):
        both = dict(zip(names.split(", "), values.split(", "), strict=True))
        if name in both:
            return int(both[name])
    raise AssertionError(name)
