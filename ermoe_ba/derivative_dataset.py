"""What makes a folder of results a BIDS derivative data set."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ermoe_ba import __version__
from ermoe_ba.bids import DESCRIPTION
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_json, write_text
from ermoe_ba.partial import sweep
from ermoe_ba.space import TEMPLATE_SPACE

# BIDS 1.10 is the version whose rules for derivatives these files follow.
BIDS_VERSION = "1.10.0"
# BIDS has no rule for transforms, reports and predictions.
_IGNORED = (
    "*_xfm.txt",
    "qc.html",
    "*_report.html",
    "*_prediction.json",
    "*_regions.tsv",
    "*_map.nii.gz",
    "*_probseg.nii.gz",
    "*predictions.tsv",
    "*predictions.parquet",
    ".partial-*",
)
_RESOLUTION = "2 mm, isotropic; 91 x 109 x 91 voxels in RAS+ order"
# What is true of all files of a kind; BIDS lets it stand once, at the root (inheritance).
_COMMON: dict[str, dict[str, Any]] = {
    "desc-preproc_T1w.json": {
        "Description": "Bias-corrected, in template space, white matter at 1, zero outside the "
        "brain and one voxel around it.",
        "SkullStripped": True,
        "Resolution": _RESOLUTION,
    },
    "desc-brain_mask.json": {
        "Description": "1 in the brain, 0 elsewhere.",
        "Type": "Brain",
        "Resolution": _RESOLUTION,
    },
}


def describe_dataset(root: Path) -> None:
    """Write what makes a folder a BIDS derivative data set, if it is none yet.

    Parameters
    ----------
    root : Path
        The folder; it is made if need be.

    Raises
    ------
    UsageError
        If the folder is a data set that something else made, holds a file that would be replaced,
        or cannot be written.
    """
    path = root / DESCRIPTION
    texts = {name: json.dumps(content, indent=2) + "\n" for name, content in _COMMON.items()}
    texts[".bidsignore"] = "\n".join(_IGNORED) + "\n"
    texts["README.md"] = (
        "# T1w scans as ermoe_ba's models see them\n\nEach scan on the model grid "
        f"({TEMPLATE_SPACE}, {_RESOLUTION}) with its brain mask, and what was made of them. "
        "The JSON beside a file says how.\n"
    )
    if path.is_file():
        try:
            made_by = json.loads(path.read_text(encoding="utf-8"))["GeneratedBy"][0]["Name"]
        except (OSError, ValueError, LookupError, TypeError):
            made_by = None
        if made_by != "ermoe_ba":
            raise UsageError(
                f"{root}: must be a new folder, or one that ermoe_ba made; found the data set of "
                f"{made_by or 'something else'}. Choose another folder."
            )
    else:
        _refuse_to_replace(root, texts)
    try:
        for name in (*texts, DESCRIPTION):
            sweep(root / name)
        for name, text in texts.items():
            write_text(root / name, text)
        write_json(
            path,
            {
                "Name": "T1w scans as seen by ermoe_ba",
                "BIDSVersion": BIDS_VERSION,
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "ermoe_ba", "Version": __version__}],
            },
        )
    except OSError as error:
        raise UsageError(
            f"--out {root}: must be a folder that can be written; found: {error.strerror}. "
            "Choose another folder."
        ) from error


def _refuse_to_replace(root: Path, texts: Mapping[str, str]) -> None:
    """Leave alone what lies in a folder that is no data set of ours, and bears a name we write."""
    for name, text in texts.items():
        try:
            same = (root / name).read_text(encoding="utf-8") == text
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):
            same = False
        # The same text is what a run left that was killed before it wrote the description.
        if not same:
            raise UsageError(
                f"{root}: must be a new folder, or one that ermoe_ba made; found {name}, which "
                "would be replaced. Choose another folder."
            )
