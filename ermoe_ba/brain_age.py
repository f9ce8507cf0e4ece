"""A model at work on one scan: from its file to age, verdict and maps."""

from dataclasses import dataclass, replace
from pathlib import Path

from ermoe_ba.checkpoint import Ensemble, load_ensemble
from ermoe_ba.errors import RefusedScanError
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.naming import ScanName, name_scans
from ermoe_ba.predict import Prediction, PredictionMaps, map_prediction, predict_age
from ermoe_ba.preprocess import Preprocessor, ScanState
from ermoe_ba.quality import (
    Assessment,
    age_limits,
    assess,
    load_limits,
    load_reference,
    measure_figures,
)
from ermoe_ba.training_scans import Answer, seen_in_training
from ermoe_ba.widening import FIGURE


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A preprocessed scan before its age is read.

    Parameters
    ----------
    state : ScanState
        The preprocessed scan, on the model grid.
    figures : dict of str to float
        All that was measured of its quality; units in the names.
    verdict : Assessment
        The figures against their limits.
    seen_in_training : {"yes", "name", "no"} or None
        Whether the model was trained on these voxels, or on a participant of that name; None where
        the model does not tell.
    chronological_age : float or None
        In years; it plays no part in the age.
    """

    state: ScanState
    figures: dict[str, float]
    verdict: Assessment
    seen_in_training: Answer | None
    chronological_age: float | None

    @property
    def qc_flags(self) -> tuple[str, ...]:
        """What looks unusual, in the words of the column ``qc_flags``."""
        return self.verdict.flags

    @property
    def refusal(self) -> RefusedScanError | None:
        """Why the scan's quality forbids an age; None where it does not."""
        check = self.verdict.refusing
        return None if check is None else RefusedScanError(self.state.path, **check.refusal())


@dataclass(frozen=True, kw_only=True)
class BrainAge(Examined):
    """The brain age of one scan, beside what `Examined` holds of it.

    Parameters
    ----------
    prediction : Prediction
        The age with its shares by token and expert.
    maps : PredictionMaps or None
        Routing weights and years as volumes on the model grid; None where not asked for.
    """

    prediction: Prediction
    maps: PredictionMaps | None

    @property
    def predicted_age(self) -> float:
        """Age that the brain looks, in years."""
        return self.prediction.predicted_age

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the prediction interval in years, the lower one at least 0."""
        return self.prediction.lower, self.prediction.upper

    @property
    def interval_widening(self) -> float | None:
        """Times that the interval is as wide as that of a scan like the training cohort's.

        At least 1; None where the model does not tell.
        """
        return self.prediction.interval_widening

    @property
    def brain_age_gap(self) -> float | None:
        """Predicted minus chronological age in years, uncorrected; None where that is unknown."""
        age = self.chronological_age
        return None if age is None else self.predicted_age - age


class BrainAgeModel:
    """A trained model, ready to read ages: what ``ermoe-ba predict`` works with.

    Parameters
    ----------
    ensemble : Ensemble
        The trained members.
    preprocessor : Preprocessor
        Of the ensemble's own preprocessing.
    """

    def __init__(self, ensemble: Ensemble, preprocessor: Preprocessor) -> None:
        self.ensemble, self.preprocessor = ensemble, preprocessor
        self._reference = load_reference()
        self._limits = load_limits().limits
        if ensemble.card.ages:
            self._limits += age_limits(min(ensemble.card.ages), max(ensemble.card.ages))
        if ensemble.widening is not None:
            self._limits += (ensemble.widening.limit,)

    @classmethod
    def load(cls, model: str = DEFAULT_MODEL, device: str = "cpu") -> "BrainAgeModel":
        """Load a model.

        Parameters
        ----------
        model : str
            Name of a shipped model, or the path of a folder.
        device : {"cpu", "cuda", "mps"}
            Where to compute.

        Returns
        -------
        BrainAgeModel

        Raises
        ------
        UsageError
            If the model cannot be used.
        """
        ensemble = load_ensemble(model, device)
        return cls(ensemble, Preprocessor(ensemble.card.preprocess, device))

    def predict(
        self, scan: Path | str, *, chronological_age: float | None = None, maps: bool = True
    ) -> BrainAge:
        """Predict the brain age of one scan, as ``ermoe-ba predict`` does; nothing is written.

        Parameters
        ----------
        scan : Path or str
            A T1w scan of a format that `ermoe_ba.formats` knows, or a folder of one DICOM series.
        chronological_age : float, optional
            In years. Only adds gap and flag; never enters the prediction.
        maps : bool
            Lay routing weights and years out on the brain as well.

        Returns
        -------
        BrainAge

        Raises
        ------
        RefusedScanError
            If the scan's quality forbids an age.
        ScanError
            If the scan cannot be used.

        Examples
        --------
        >>> from ermoe_ba import BrainAgeModel
        >>> model = BrainAgeModel.load()
        >>> found = model.predict("sub-01_T1w.nii.gz")  # doctest: +SKIP
        >>> low, high = found.interval  # doctest: +SKIP
        >>> found.maps.contributions["grey_matter"].grid.space  # doctest: +SKIP
        'MNI152NLin2009aSym'
        """
        (named,) = name_scans([Path(scan)])
        examined = self.examine(self.preprocessor(named.path), named, chronological_age)
        if examined.refusal is not None:
            raise examined.refusal
        return self.read(examined, maps=maps)

    def examine(
        self, state: ScanState, scan: ScanName, chronological_age: float | None
    ) -> Examined:
        """Measure the quality of a preprocessed scan, and look whether the model was trained on it.

        Parameters
        ----------
        state : ScanState
            The scan, preprocessed as the model asks.
        scan : ScanName
            Whose it is, and the file it came from.
        chronological_age : float or None
            In years.

        Returns
        -------
        Examined

        Raises
        ------
        ScanError
            If the file cannot be read any more.
        """
        figures = state.figures | measure_figures(state.image, state.mask, self._reference)
        known = self.ensemble.training_scans
        return Examined(
            state=state,
            figures=figures,
            verdict=self._assess(state, figures, chronological_age),
            seen_in_training=seen_in_training(known, scan.participant_id, scan.path),
            chronological_age=chronological_age,
        )

    def read(self, examined: Examined, *, maps: bool) -> BrainAge:
        """Read the age of an examined scan, whatever its quality.

        Parameters
        ----------
        examined : Examined
            From `examine`.
        maps : bool
            Lay routing weights and years out on the brain as well.

        Returns
        -------
        BrainAge
            Its figures hold the distance of the scan's description as well, where the model has a
            rule by which intervals widen.

        Raises
        ------
        ScanError
            If the network gives no finite age.
        """
        state = examined.state
        prediction = predict_age(self.ensemble, state)
        distance = prediction.description_distance
        if distance is not None:
            figures = examined.figures | {FIGURE: distance}
            verdict = self._assess(state, figures, examined.chronological_age)
            examined = replace(examined, figures=figures, verdict=verdict)
        return BrainAge(
            state=state,
            figures=examined.figures,
            verdict=examined.verdict,
            seen_in_training=examined.seen_in_training,
            chronological_age=examined.chronological_age,
            prediction=prediction,
            maps=map_prediction(self.ensemble, prediction, state.mask) if maps else None,
        )

    def _assess(self, state: ScanState, figures: dict[str, float], age: float | None) -> Assessment:
        known = {} if age is None else {"chronological_age": age}
        return assess(self._limits, figures | known, state.flags)
