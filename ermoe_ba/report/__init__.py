"""The report on one scan and the page of a batch: the only part of the package that draws.

Importing it brings matplotlib and jinja2 along, so callers import it when they write a report.
"""

from ermoe_ba.report.content import ReportContent
from ermoe_ba.report.html import write_report
from ermoe_ba.report.index import IndexRow, write_index
from ermoe_ba.report.quality_page import QualityPage
from ermoe_ba.report.thumbnail import draw_thumbnail

__all__ = [
    "IndexRow",
    "QualityPage",
    "ReportContent",
    "draw_thumbnail",
    "write_index",
    "write_report",
]
