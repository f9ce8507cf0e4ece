"""From a T1w file in the scanner's space to intensities and brain mask on the model grid."""

from ermoe_ba.preprocess.config import PreprocessConfig
from ermoe_ba.preprocess.pipeline import Preprocessor
from ermoe_ba.preprocess.state import ScanState

__all__ = ["PreprocessConfig", "Preprocessor", "ScanState"]
