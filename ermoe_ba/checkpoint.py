"""A trained ensemble on disk: safetensors and JSON, nothing that runs code when it is read."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ermoe_ba.assets import template
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_whole
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.stem import VoxelStem
from ermoe_ba.model_card import DEFAULT_MODEL, ModelCard, model_folder, read_card
from ermoe_ba.model_identity import member_files, model_identity
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training_scans import TrainingScans, read_training_scans
from ermoe_ba.widening import WIDENING_FILE, Widening, read_widening


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
    """Return the tokens of a network: the patches that hold template brain.

    Parameters
    ----------
    config : ModelConfig
        Gives the edge of a patch and the least share of brain in it.

    Returns
    -------
    TokenGrid
        On the model grid.

    Raises
    ------
    UsageError
        As from `ermoe_ba.assets.template`.
    """
    return TokenGrid.over(template("desc-brain_mask"), config.patch_size, config.token_min_brain)


def save_member(path: Path, member: ErmoeBrainAge) -> None:
    """Write one member's weights, whole or not at all.

    Parameters
    ----------
    path : Path
        Of the file, safetensors.
    member : ErmoeBrainAge
        Whose weights and buffers are written.

    Raises
    ------
    OSError
        As from `save_tensors`.
    """
    save_tensors(path, member.state_dict())


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors, whole or not at all.

    Parameters
    ----------
    path : Path
        Of the file, safetensors.
    tensors : mapping of Tensor
        By name; no two share memory.

    Raises
    ------
    OSError
        If the file cannot be written, for want of space for one; what stood there stays.
    """
    content = save({name: value.contiguous() for name, value in tensors.items()})

    def write(partial: Path) -> None:
        # Not safetensors' own writer: a full disk must show as an error of this call.
        partial.write_bytes(content)

    write_whole(path, write)


def load_member(path: Path, config: ModelConfig, tokens: TokenGrid) -> ErmoeBrainAge:
    """Read one member.

    Parameters
    ----------
    path : Path
        Of a file from `save_member`.
    config : ModelConfig
        Shape that the weights must have.
    tokens : TokenGrid
        Where the member's tokens lie.

    Returns
    -------
    ErmoeBrainAge
        In evaluation mode, on the processor.

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
    ensemble = _read_members(folder, card, member_files(folder), device)
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
    paths = [path for path in member_files(folder) if path.name.startswith(f"fold-{fold}_")]
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


def share_stems(members: list[ErmoeBrainAge]) -> None:
    """Let members with equal stems hold the first one's.

    Parameters
    ----------
    members : list of ErmoeBrainAge
        Changed in place.
    """
    distinct: list[VoxelStem] = []
    for member in members:
        state = member.stem.state_dict()
        for stem in distinct:
            if all(torch.equal(value, state[name]) for name, value in stem.state_dict().items()):
                member.stem = stem
                break
        else:
            distinct.append(member.stem)
