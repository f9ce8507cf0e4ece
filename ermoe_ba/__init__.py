"""ERMoE-ba: brain age from one T1-weighted MRI, read from eigen-reparameterised experts.

`BrainAgeModel` predicts from Python: its module holds what is known of each scan. It is imported
when it is asked for, since torch takes seconds to load.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ermoe_ba.brain_age import BrainAge, BrainAgeModel

__all__ = ["BrainAge", "BrainAgeModel", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("BrainAge", "BrainAgeModel"):
        return getattr(import_module("ermoe_ba.brain_age"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
