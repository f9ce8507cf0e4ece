"""``ermoe-ba info``: what is installed, and on what terms."""

import argparse
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ermoe_ba import __version__
from ermoe_ba.atlas import registry
from ermoe_ba.errors import UsageError
from ermoe_ba.model_card import DEFAULT_MODEL, WEIGHTS, model_folder, read_card, shipped_models
from ermoe_ba.software import TRACED
from ermoe_ba.space import MODEL_GRID

# In a model's folder: what it was trained on, how good it is, and what it is not for.
CARD = "MODEL_CARD.md"


def collect() -> dict[str, Any]:
    """Return versions, models, atlases, grid and licences as plain values.

    Returns
    -------
    dict
        Values that JSON can hold; the models' errors and half-widths in years.
    """
    models = {}
    for name in shipped_models():
        card = read_card(WEIGHTS / name)
        models[name] = {
            "out_of_fold_mae_years": card.metrics["mae"],
            "interval_half_width_years": card.half_width,
            "experts": list(card.model.expert_names),
            "training_data": card.provenance.get("data"),
            "licence": card.provenance.get("licence"),
            "preprocessing_id": card.preprocessing_id,
        }
    atlases = {
        name: {key: entry[key] for key in ("description", "licence")}
        for name, entry in registry().items()
    }
    return {
        "ermoe_ba": __version__,
        "licence": "Apache-2.0 (code); models and atlases as listed",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in TRACED},
        "models": models,
        "atlases": atlases,
        "grid": MODEL_GRID.describe(),
    }


def run_info(options: argparse.Namespace) -> int:
    """Print a model's card, or what `collect` returns.

    Parameters
    ----------
    options : Namespace
        From the parser of the command; an empty ``model`` is the default one.

    Returns
    -------
    int
        Exit code: 0.

    Raises
    ------
    UsageError
        If there is no such model, it has no card, or its ``model.json``, which is asked for as
        JSON, cannot be read.
    """
    if options.model is None:
        content = collect()
    else:
        folder = model_folder(options.model or DEFAULT_MODEL)
        path = folder / CARD
        if not path.is_file():
            raise UsageError(f"{path}: this model has no card; model.json holds its figures.")
        text = path.read_text(encoding="utf-8")
        if not options.json:
            print(text, end="")
            return 0
        content = {**asdict(read_card(folder)), "card": text}
    if options.json:
        print(json.dumps(content, indent=2))
    else:
        _print(content, "")
    return 0


def _print(content: dict[str, Any], indent: str) -> None:
    for key, value in content.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print(value, indent + "  ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{indent}{key}: {shown}")
