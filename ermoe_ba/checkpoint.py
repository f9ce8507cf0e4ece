"""A trained ensemble on disk: safetensors and JSON, nothing that runs code when it is read."""

import hashlib
import json
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ermoe_ba.assets import PACKAGE, template
from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json, write_whole
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.stem import VoxelStem
from ermoe_ba.preprocess.config import PreprocessConfig
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training_scans import TrainingScans, read_training_scans
from ermoe_ba.widening import WIDENING_FILE, Widening, read_widening

DEFAULT_MODEL = "ixi-hh"
WEIGHTS = PACKAGE / "weights"


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


@dataclass(frozen=True)
class Ensemble:
    """Trained members of one shape, and their card.

    Parameters
    ----------
    card : ModelCard
        What is known of them.
    members : list of ErmoeBrainAge
        In evaluation mode, experts matched across members. Members with equal stems hold the same
        one, so that a scan need be described only once for them.
    tokens : TokenGrid
        Where their tokens lie.
    model_id : str
        Name and hash of the weights.
    widening : Widening or None
        How the interval widens where a scan is unlike the training cohort's; None where that was
        not measured.
    training_scans : TrainingScans or None
        Whom it was trained on; None where it does not tell.
    """

    card: ModelCard
    members: list[ErmoeBrainAge]
    tokens: TokenGrid
    model_id: str
    widening: Widening | None = None
    training_scans: TrainingScans | None = None

    @property
    def member_stems(self) -> list[int]:
        """Which stem each member has, counted from 0: members of one fold share theirs."""
        order = {id(m.stem): None for m in self.members}
        return [list(order).index(id(m.stem)) for m in self.members]


def token_grid(config: ModelConfig) -> TokenGrid:
    """Return the tokens of a network: the patches that hold template brain."""
    return TokenGrid.over(template("desc-brain_mask"), config.patch_size, config.token_min_brain)


def save_member(path: Path, member: ErmoeBrainAge) -> None:
    """Write one member's weights, whole or not at all."""
    state = {name: value.contiguous() for name, value in member.state_dict().items()}
    write_whole(path, lambda partial: save_file(state, partial))


def load_member(path: Path, config: ModelConfig, tokens: TokenGrid) -> ErmoeBrainAge:
    """Read one member.

    Raises
    ------
    UsageError
        If the file is missing or damaged, or holds the weights of another shape of network.
    """
    return _filled(ErmoeBrainAge(config, tokens), path)


def _filled(member: ErmoeBrainAge, path: Path) -> ErmoeBrainAge:
    try:
        member.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch lists every mismatch on a line of its own.
        why = " ".join(str(error).split())
        raise UsageError(f"{path}: the weights cannot be read ({why}).") from error
    return member.eval()


def save_card(folder: Path, card: ModelCard) -> None:
    """Write the card as ``model.json``: the last file of a checkpoint to be written."""
    write_json(folder / "model.json", asdict(card))


def read_card(folder: Path) -> ModelCard:
    """Read ``model.json``.

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
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/model.json"))


def load_ensemble(model: str = DEFAULT_MODEL, device: str = "cpu") -> Ensemble:
    """Load a trained ensemble.

    Parameters
    ----------
    model : str
        Name of a shipped model, or the path of a folder.
    device : {"cpu", "cuda", "mps"}
        Where to put it.

    Returns
    -------
    Ensemble
        Ready to predict.

    Raises
    ------
    UsageError
        If it cannot be read, or was trained on scans that this version would preprocess otherwise.
    """
    folder = model_folder(model)
    card = read_card(folder)
    if card.preprocess.identity() != card.preprocessing_id:
        raise UsageError(
            f"The model in {folder} was trained on preprocessing {card.preprocessing_id}; this "
            f"version makes {card.preprocess.identity()}, so its ages would be wrong. Use the "
            "version it was trained with, or train it again."
        )
    ensemble = _read_members(folder, card, _member_files(folder), device)
    widening = read_widening(folder)
    if widening is not None and widening.model_id != ensemble.model_id:
        raise UsageError(
            f"{folder / WIDENING_FILE}: must be of the weights beside it, {ensemble.model_id}; "
            f"found that of {widening.model_id}. Remove it, or measure it again."
        )
    trained = read_training_scans(folder)
    return replace(
        ensemble,
        widening=widening,
        training_scans=None if trained is None else TrainingScans.of(trained),
    )


def load_fold(folder: Path, fold: int) -> Ensemble:
    """Load the members of one fold of a cross-validated model: those that never saw its people.

    Parameters
    ----------
    folder : Path
        Of the model, or of the run that made it.
    fold : int
        Number of the fold.

    Returns
    -------
    Ensemble
        A model of its own, which has the card of the whole, no rule by which intervals widen, and
        does not tell whom it was trained on.

    Raises
    ------
    UsageError
        If the folder holds no such fold, or it cannot be read.
    """
    card = read_card(folder)
    paths = [path for path in _member_files(folder) if path.name.startswith(f"fold-{fold}_")]
    if not paths:
        raise UsageError(f"{folder}: must hold members of fold {fold}; found none.")
    return _read_members(folder, card, paths, "cpu")


def _read_members(folder: Path, card: ModelCard, paths: list[Path], device: str) -> Ensemble:
    tokens = token_grid(card.model)
    blank = ErmoeBrainAge(card.model, tokens)
    # Copies are made sooner than new networks with weights of chance; one table of coordinates,
    # 3 MB, serves all.
    shared = {id(blank.coordinates_txijk): blank.coordinates_txijk}
    members = [
        _filled(deepcopy(blank, dict(shared)), path).to(torch.device(device)) for path in paths
    ]
    share_stems(members)
    return Ensemble(card, members, tokens, model_identity(folder, card))


def model_identity(folder: Path, card: ModelCard) -> str:
    """Return the name of a model and a hash of its weights, joined by a hyphen.

    Raises
    ------
    UsageError
        If the folder holds no weights.
    """
    weights = b"".join(path.read_bytes() for path in _member_files(folder))
    return f"{card.name}-{hashlib.sha256(weights).hexdigest()[:12]}"


def _member_files(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("fold-*.safetensors"))
    if not paths:
        raise UsageError(f"{folder}: a model needs at least one fold-*.safetensors; found none.")
    return paths


def share_stems(members: list[ErmoeBrainAge]) -> None:
    """Let members with equal stems hold the first one's."""
    distinct: list[VoxelStem] = []
    for member in members:
        state = member.stem.state_dict()
        for stem in distinct:
            if all(torch.equal(value, state[name]) for name, value in stem.state_dict().items()):
                member.stem = stem
                break
        else:
            distinct.append(member.stem)
