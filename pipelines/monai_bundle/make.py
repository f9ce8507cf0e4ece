"""A MONAI bundle of a trained model.

Purpose: brain ages where the tools of MONAI are spoken.
Command: python pipelines/monai_bundle/make.py BUNDLE [--model NAME|PATH]
Needs:   an environment with ermoe_ba, here and where the bundle is used: the bundle holds weights
         and settings; preprocessing and network are the package's.
Result:  BUNDLE/configs, models, scripts and LICENSE; inside it, then:
         python -m monai.bundle verify_net_in_out --net_id network_def \
             --meta_file configs/metadata.json --config_file configs/inference.json
         python -m monai.bundle run --config_file configs/inference.json --scan SCAN.nii.gz
"""

import argparse
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ermoe_ba import __version__
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json
from ermoe_ba.model_card import DEFAULT_MODEL, ModelCard, model_folder, read_card
from ermoe_ba.space import MODEL_GRID

HERE = Path(__file__).parent
# The one that MONAI's own bundles name.
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)


def metadata(card: ModelCard) -> dict[str, Any]:
    """Return what MONAI wants to know of a model, as plain values for ``metadata.json``."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: f"generated from the model {card.name}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "ermoe_ba": __version__,
            "safetensors": version("safetensors"),
        },
        "name": f"ermoe_ba {card.name}",
        "task": "Brain age from one T1-weighted MRI",
        "description": "Regression of age by eigen-reparameterised experts; research use, not a "
        "diagnosis.",
        "authors": "The ermoe_ba developers",
        "copyright": "The ermoe_ba developers",
        "data_source": str(card.provenance.get("data", "unknown")),
        "data_type": "nifti",
        "intended_use": "Research on groups; not a statement about one person's health.",
        "eval_metrics": {"out_of_fold_mae_years": card.metrics["mae"]},
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": 1,
                    "spatial_shape": list(MODEL_GRID.shape),
                    "dtype": "float32",
                    # Air, and the brightest that preprocessing leaves.
                    "value_range": [0, card.preprocess.intensity_ceiling],
                    "is_patch_data": False,
                    "channel_def": {"0": "T1w, white matter 1"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "regression",
                    "format": "age",
                    "num_channels": 1,
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {"0": "predicted_age, years"},
                }
            },
        },
    }


def make_bundle(bundle: Path, model: str) -> None:
    """Write a bundle.

    Parameters
    ----------
    bundle : Path
        A folder that does not exist yet.
    model : str
        Name of a shipped model, or the path of a folder.

    Raises
    ------
    UsageError
        If the folder exists, or there is no such model.
    """
    if bundle.exists():
        raise UsageError(f"{bundle}: must not exist yet; give another folder, or remove it.")
    folder = model_folder(model)
    card = read_card(folder)
    for part in ("configs", "scripts"):
        shutil.copytree(HERE / part, bundle / part, ignore=shutil.ignore_patterns("__pycache__"))
    (bundle / "models").mkdir()
    for path in (folder / "model.json", *sorted(folder.glob("fold-*.safetensors"))):
        shutil.copy(path, bundle / "models")
    licence = folder.parent / "LICENSE.txt"
    if licence.is_file():
        shutil.copy(licence, bundle / "LICENSE")
    # Last: a folder without it is no bundle.
    write_json(bundle / "configs" / "metadata.json", metadata(card))


def main() -> int:
    """Write the bundle that the command line asks for; return 0, or 2 where it cannot be."""
    parser = argparse.ArgumentParser(description="Write a MONAI bundle of a trained model.")
    parser.add_argument("bundle", type=Path, help="folder to make")
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|PATH")
    options = parser.parse_args()
    try:
        make_bundle(options.bundle, options.model)
    except (UsageError, OSError) as error:
        print(f"make.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
