"""Record what a model is: the hash of each of its files, and what it says of the sample head.

Command: python pipelines/record_model.py [MODEL]
Input:   MODEL, a shipped model or a model folder (default: ixi-hh), finished.
Time:    about 20 s of one core.
Result:  recorded.json in the model's folder, which tests/test_wheel.py holds the installed package
         against. Run it when a model is shipped, and never to make that test pass.
"""

import argparse
import hashlib
from pathlib import Path

from ermoe_ba.assets import SAMPLE_HEAD
from ermoe_ba.brain_age import BrainAgeModel
from ermoe_ba.io import write_json
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder

RECORD = "recorded.json"
# The card is text, which may be put better while the model stays; tests/test_model_card.py holds
# its figures against the other files.
LEFT_OUT = (RECORD, "MODEL_CARD.md")


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that makes a model, as `sha256sum` gives it, by name."""
    paths = sorted(path for path in folder.iterdir() if path.name not in LEFT_OUT)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def main() -> None:
    """Write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    folder = model_folder(parser.parse_args().model)
    model = BrainAgeModel.load(str(folder))
    found = model.predict(SAMPLE_HEAD, maps=False)
    widening = found.interval_widening
    sample = SAMPLE_HEAD.name.removesuffix("_T1w.nii.gz")
    record = {
        "model_id": model.ensemble.model_id,
        "files": hashes(folder),
        "ages": {sample: round(found.predicted_age, 2)},
        "intervals": {sample: [round(end, 2) for end in found.interval]},
        # Null of a model without a rule by which its intervals widen.
        "interval_widenings": {sample: None if widening is None else round(widening, 3)},
        "note": "SHA-256 of each file, and what `ermoe-ba predict` gave of the sample head in "
        "years when the weights were shipped (pipelines/record_model.py)",
    }
    write_json(folder / RECORD, record)


if __name__ == "__main__":
    main()
