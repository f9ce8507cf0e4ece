"""Scan real people at simulated sites, and state what becomes of their ages and intervals.

Command: python pipelines/sites.py DATA OUT [--model NAME|PATH] [--every N] [--settings TOML]
Input:   DATA/participants.tsv, DATA/t1/<id>_T1w.nii.gz and DATA/dlmuse/<id>_dseg.nii.gz of those
         whom the model was trained on; sites and people: pipelines/sites.toml. Every head is
         changed as it came from the scanner and then preprocessed, and predicted by the members
         that never saw it; the model's rule of widening was made without these people
         (pipelines/widening.py).
Time:    about 8 s of one core a head and site. A run that was stopped goes on; it keeps what it
         preprocessed in OUT/prepared.
Result:  OUT/ages.tsv (one row a head and site), sites.tsv and sites.md (one row a site).
"""

import argparse
import hashlib
import json
import sys
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.checkpoint import DEFAULT_MODEL, Ensemble, load_fold, model_folder
from ermoe_ba.cohort import read_participants
from ermoe_ba.config import from_plain
from ermoe_ba.derivatives import Derivative, read_derivative, write_derivative
from ermoe_ba.errors import ScanError
from ermoe_ba.io import content_hash, read_t1w, read_volume, write_text, write_volume
from ermoe_ba.predict import predict_age
from ermoe_ba.preprocess import Preprocessor, ScanState
from ermoe_ba.quality import assess, load_limits, load_reference, measure_figures
from ermoe_ba.simulated_sites import SimulatedSite, SiteTrial
from ermoe_ba.tables import markdown_table, write_table
from ermoe_ba.training.run_folder import TRAINING_SCANS, read_run_table
from ermoe_ba.widening import FIGURE, FLAG, read_widening

UNCHANGED = SimulatedSite(name="as it is", steps=())


@dataclass(frozen=True)
class HeadScanner:
    """Scans heads at sites and preprocesses them; what was done before is read back.

    Parameters
    ----------
    data, out : Path
        The cohort; where preprocessed scans are kept.
    preprocessor : Preprocessor
        Of the model.
    """

    data: Path
    out: Path
    preprocessor: Preprocessor

    def scan(self, person: str, site: SimulatedSite, rng: np.random.Generator) -> ScanState:
        """Return a person's scan from a site, preprocessed.

        Raises
        ------
        ScanError
            If the preprocessing refuses it.
        """
        path = self.data / "t1" / f"{person}_T1w.nii.gz"
        told = f"{content_hash(path)} {json.dumps(asdict(site))} {rng.bit_generator.state}"
        source = hashlib.sha256(told.encode()).hexdigest()
        label, where = ("".join(filter(str.isalnum, text)) for text in (person, site.name))
        folder = self.out / "prepared" / f"sub-{label}" / "anat"
        place = Derivative(folder=folder, stem=f"sub-{label}_acq-{where}")
        wanted = self.preprocessor.config.identity()
        kept = read_derivative(place, path, wanted, source)
        if kept is not None:
            return kept
        cavity = read_volume(self.data / "dlmuse" / f"{person}_dseg.nii.gz", "scan")
        with TemporaryDirectory() as temporary:
            changed = Path(temporary) / "head_T1w.nii.gz"
            write_volume(changed, site.scan(read_t1w(path), cavity, rng))
            state = self.preprocessor(changed)
        write_derivative(place, state, self.preprocessor, source)
        return state


def predicted(ensemble: Ensemble, state: ScanState) -> dict[str, Any]:
    """Return age, flags and interval of a scan, as `ermoe-ba predict` gives them."""
    figures = state.figures | measure_figures(state.image, state.mask, load_reference())
    limits = load_limits().limits
    verdict = assess(limits, figures, state.flags)
    if verdict.refusing is not None:
        return {"predicted_age": None, "flags": f"no age: {verdict.refusing.limit.flag}"}
    prediction = predict_age(ensemble, state)
    assert ensemble.widening is not None
    assert prediction.description_distance is not None
    figures |= {FIGURE: prediction.description_distance}
    verdict = assess((*limits, ensemble.widening.limit), figures, state.flags)
    return {
        "predicted_age": prediction.predicted_age,
        "interval_widening": prediction.interval_widening,
        "description_distance": prediction.description_distance,
        "training_distance": figures["training_distance"],
        "flags": ";".join(verdict.flags),
    }


def summary(
    name: str, rows: pd.DataFrame, unchanged: pd.Series, half_width: float
) -> dict[str, Any]:
    """Return what became of the people at one site."""
    given = rows.dropna(subset=["predicted_age"])
    before = unchanged.loc[given["participant_id"]].to_numpy()
    age = given["predicted_age"].to_numpy(dtype=float)
    gap = age - given["chronological_age"].to_numpy()
    factor = given["interval_widening"].to_numpy(dtype=float)
    words = given["flags"].str.split(";")
    return {
        "site": name,
        "people": len(rows),
        "no_age": len(rows) - len(given),
        "mae": np.abs(gap).mean(),
        "mean_gap": gap.mean(),
        "mean_shift": (age - before).mean(),
        "largest_shift": np.abs(age - before).max(),
        "r_unchanged": np.corrcoef(age, before)[0, 1],
        "flagged": words.map(lambda flags: bool(set(flags) - {"", FLAG})).mean(),
        "widened": np.mean(factor > 1),
        "mean_widening": factor.mean(),
        "covered_as_in_cohort": np.mean(np.abs(gap) <= half_width),
        "covered_widened": np.mean(np.abs(gap) <= half_width * factor),
    }


def main() -> int:
    """Run all; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--every", type=int, help="a multiple of the settings': fewer people")
    parser.add_argument("--settings", type=Path, default=Path(__file__).with_suffix(".toml"))
    options = parser.parse_args()
    trial = from_plain(SiteTrial, tomllib.loads(options.settings.read_text("utf-8")))
    if options.every is not None and options.every % trial.every:
        parser.error(f"--every must be a multiple of {trial.every}: others set the rule.")
    folder = model_folder(options.model)
    rule = read_widening(folder)
    if rule is None:
        parser.error(f"{folder} has no rule by which intervals widen: see pipelines/widening.py.")
    age_of = read_participants(options.data / "participants.tsv").labelled.table["age"]
    number_of, _ = trial.numbered(age_of)
    people = [p for p, n in number_of.items() if n % (options.every or trial.every) == 0]
    fold_of = (
        read_run_table(folder / TRAINING_SCANS).set_index("participant_id")["fold"].astype(int)
    )
    rows = []
    for fold in sorted(set(fold_of[people])):
        likeness = rule.likeness_s[fold]
        ensemble = replace(load_fold(folder, fold), widening=replace(rule, likeness_s=(likeness,)))
        scanner = HeadScanner(options.data, options.out, Preprocessor(ensemble.card.preprocess))
        for person in (p for p in people if fold_of[p] == fold):
            for place, site in enumerate((UNCHANGED, *trial.site)):
                row: dict[str, Any] = {
                    "participant_id": person,
                    "site": site.name,
                    "chronological_age": float(age_of[person]),
                }
                rng = trial.generator(number_of[person], place)
                try:
                    row |= predicted(ensemble, scanner.scan(person, site, rng))
                except ScanError as error:
                    row |= {"predicted_age": None, "flags": f"no age: {error.found}"}
                rows.append(row)
                print(f"{person} {site.name}: {row['predicted_age']}", flush=True)
    ages = pd.DataFrame(rows)
    at = {name: ages[ages["site"] == name] for name in ages["site"].unique()}
    unchanged = at[UNCHANGED.name].set_index("participant_id")["predicted_age"]
    half_width = ensemble.card.half_width
    found = [summary(name, group, unchanged, half_width) for name, group in at.items()]
    changed = ages[ages["site"] != UNCHANGED.name]
    found.append(summary("all simulated sites", changed, unchanged, half_width))
    table = pd.DataFrame(found)
    write_table(options.out / "ages.tsv", ages)
    write_table(options.out / "sites.tsv", table)
    text = markdown_table(table, 2)
    write_text(options.out / "sites.md", text)
    print(text)
    print(f"Written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
