"""What predicted ages are worth: figures of ages that no model saw, uncorrected first.

Nothing here trains or draws; `ermoe_ba.report` shows what `evaluate` finds.
"""

from ermoe_ba.evaluation.evaluation import Evaluation, evaluate
from ermoe_ba.evaluation.out_of_fold import OutOfFold

__all__ = ["Evaluation", "OutOfFold", "evaluate"]
