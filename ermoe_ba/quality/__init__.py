"""Automatic quality control: figures of a scan, limits learnt from a cohort, and the verdict."""

from ermoe_ba.quality.assessment import Assessment, Check, age_limits, assess
from ermoe_ba.quality.figures import measure_figures
from ermoe_ba.quality.limits import load_limits
from ermoe_ba.quality.reference import load_reference

__all__ = [
    "Assessment",
    "Check",
    "age_limits",
    "assess",
    "load_limits",
    "load_reference",
    "measure_figures",
]
