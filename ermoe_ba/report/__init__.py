"""The report on one scan: the only part of the package that draws.

Importing it brings matplotlib and jinja2 along, so callers import it when they write a report.
"""

from ermoe_ba.report.content import ReportContent
from ermoe_ba.report.html import write_report

__all__ = ["ReportContent", "write_report"]
