"""What `predict` wrote, read back: to make the reports again, and to list a cohort."""

from ermoe_ba.kept_results.kept_scan import KeptScan, find_kept, read_kept, rows_without_result
from ermoe_ba.kept_results.report_maker import ReportMaker

__all__ = ["KeptScan", "ReportMaker", "find_kept", "read_kept", "rows_without_result"]
