"""What a worker process does with one scan, to predict or preprocess it."""

from ermoe_ba.workers.derivative_maker import DerivativeMaker, PreprocessSettings
from ermoe_ba.workers.outcome import Outcome, Task
from ermoe_ba.workers.predictor import Predictor, PredictSettings

__all__ = [
    "DerivativeMaker",
    "Outcome",
    "PredictSettings",
    "Predictor",
    "PreprocessSettings",
    "Task",
]
