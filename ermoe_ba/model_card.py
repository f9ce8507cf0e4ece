"""Model cards: everything about a trained ensemble but its weights, and where they lie."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ermoe_ba.assets import PACKAGE
from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.preprocess.config import PreprocessConfig

DEFAULT_MODEL = "ixi-hh"
WEIGHTS = PACKAGE / "weights"
# What `probe` does to all experts at once, as its figures name it.
INTERFERENCES = ("zeroed", "random_routing", "other_subject_routing")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything about a trained ensemble but its weights.

    Parameters
    ----------
    name : str
        Name of the model.
    model : ModelConfig
        Shape of every member.
    preprocess : PreprocessConfig
        What the scans must have gone through.
    preprocessing_id : str
        Identity of that preprocessing when the model was trained.
    ages, predictions : tuple of float
        Chronological and out-of-fold predicted ages of the training cohort, in years, in one order.
    coverage : float
        Of the prediction interval.
    half_width : float
        Of the prediction interval of a scan like those of the training cohort, in years, from the
        out-of-fold residuals.
    metrics : dict
        Out-of-fold figures.
    provenance : dict
        Versions, seed, data hash, licences and what else traces the model.
    """

    name: str
    model: ModelConfig
    preprocess: PreprocessConfig
    preprocessing_id: str
    ages: tuple[float, ...]
    predictions: tuple[float, ...]
    coverage: float
    half_width: float
    metrics: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def mae_without_expert(self) -> dict[str, float]:
        """Error in years without each expert, out of fold; empty where it was not measured."""
        without = self.metrics.get("probe_mae_without_expert")
        return {} if without is None else dict(zip(self.model.expert_names, without, strict=True))

    @property
    def mae_with_all_experts(self) -> float | None:
        """The error that was measured in the same way as those without an expert, in years."""
        return self.metrics["probe_mae"] if self.mae_without_expert else None

    @property
    def mae_interfered(self) -> dict[str, float]:
        """Error in years with all experts interfered with, out of fold, by what was done.

        ``zeroed``: their one layer adds nothing, so that the age is the baseline's;
        ``random_routing``: the weights of each token dealt out anew among the experts;
        ``other_subject_routing``: other people's weights. Without what was not measured.
        """
        found = {name: self.metrics.get(f"probe_mae_{name}") for name in INTERFERENCES}
        # A list has one figure a layer, and a mixture has one layer of experts.
        plain = {name: v[0] if isinstance(v, list) else v for name, v in found.items()}
        return {name: float(value) for name, value in plain.items() if value is not None}


def save_card(folder: Path, card: ModelCard) -> None:
    """Write the card as ``model.json``: the last file of a checkpoint to be written.

    Parameters
    ----------
    folder : Path
        Of the model.
    card : ModelCard
        What is known of it.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    write_json(folder / "model.json", asdict(card))


def read_card(folder: Path) -> ModelCard:
    """Read ``model.json``.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    ModelCard
        Checked by type and range.

    Raises
    ------
    UsageError
        If there is no such file, or it is no model card of this version.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise UsageError(
            f"{path}: a model must have its card; found no such file. Of a cross-validation, it is "
            "written once all folds are trained."
        )
    try:
        return from_plain(ModelCard, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a model of this version ({error}).") from error


def model_folder(model: str) -> Path:
    """Return the folder of a shipped model's name, or of a path.

    Parameters
    ----------
    model : str
        Name of a shipped model, or the path of a folder; the name comes first.

    Returns
    -------
    Path
        Holds a ``model.json``.

    Raises
    ------
    UsageError
        If there is neither.
    """
    for folder in (WEIGHTS / model, Path(model)):
        if (folder / "model.json").is_file():
            return folder
    raise UsageError(
        f"There is no model {model!r}; shipped are {', '.join(shipped_models())}. "
        "A path must be a folder with model.json and fold-*.safetensors."
    )


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package.

    Returns
    -------
    list of str
        In alphabetical order.
    """
    return sorted(path.parent.name for path in WEIGHTS.glob("*/model.json"))
