"""What a model is known by: its name, and a hash of its weights."""

import hashlib
from pathlib import Path

from ermoe_ba.errors import UsageError
from ermoe_ba.model_card import ModelCard


def member_files(folder: Path) -> list[Path]:
    """Return the files of a model's weights, by name.

    Parameters
    ----------
    folder : Path
        Holds them.

    Returns
    -------
    list of Path
        ``fold-*.safetensors``, at least one.

    Raises
    ------
    UsageError
        If there is none.
    """
    paths = sorted(folder.glob("fold-*.safetensors"))
    if not paths:
        raise UsageError(f"{folder}: a model needs at least one fold-*.safetensors; found none.")
    return paths


def model_identity(folder: Path, card: ModelCard) -> str:
    """Return the name of a model and a hash of its weights, joined by a hyphen.

    Parameters
    ----------
    folder : Path
        Holds the weights, ``fold-*.safetensors``.
    card : ModelCard
        Gives the name.

    Returns
    -------
    str
        Such as ``ixi-hh-b68548466b29``: 12 hexadecimal digits of SHA-256 over all members' files.

    Raises
    ------
    UsageError
        If the folder holds no weights.
    """
    weights = b"".join(path.read_bytes() for path in member_files(folder))
    return f"{card.name}-{hashlib.sha256(weights).hexdigest()[:12]}"


def model_name(model_id: str) -> str:
    """Return the name that a model's identity begins with.

    Parameters
    ----------
    model_id : str
        From `model_identity`.

    Returns
    -------
    str
        Without the last hyphen and the hash behind it.
    """
    return model_id.rpartition("-")[0]
