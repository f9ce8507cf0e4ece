"""Scan real people at simulated sites, and state what becomes of their ages and intervals.

Command: python pipelines/sites.py DATA RUN OUT [--prepared] [--every N]
Input:   DATA/participants.tsv, DATA/t1/<id>_T1w.nii.gz and DATA/dlmuse/<id>_dseg.nii.gz; RUN, a
         finished `ermoe-ba cross-validate` on these people, with the rule of widening that
         `python pipelines/widening.py DATA RUN RUN` made without those who are scanned here; sites
         and people: pipelines/sites.toml. Every head is changed as it came from the scanner and
         then preprocessed, and predicted by the members that never saw it. With --prepared, the
         scans that RUN prepared are changed instead, and normalised anew: fields and turns, which
         preprocessing undoes, are left out.
Time:    about 8 s of one core a head and site, with --prepared 0.8 s. A run that was stopped goes
         on.
Result:  OUT/ages.tsv (one row a head and site), sites.tsv and sites.md (one row a site).
"""

import argparse
import json
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.checkpoint import Ensemble, load_fold
from ermoe_ba.cohort import read_participants
from ermoe_ba.config import from_plain
from ermoe_ba.dataset import PreparedCohort
from ermoe_ba.errors import ScanError
from ermoe_ba.io import write_json, write_text
from ermoe_ba.predict import predict_age
from ermoe_ba.preprocess import Preprocessor, ScanState
from ermoe_ba.quality import assess, load_limits, load_reference, measure_figures
from ermoe_ba.simulated_sites import SimulatedSite, SiteTrial
from ermoe_ba.site_scans import scan_head, scan_prepared
from ermoe_ba.study import StudyScan
from ermoe_ba.tables import markdown_table, write_table
from ermoe_ba.training_scans import TRAINING_SCANS, read_training_scans
from ermoe_ba.widening import FIGURE, FLAG, read_widening

UNCHANGED = SimulatedSite(name="as it is", steps=())


@dataclass(frozen=True)
class Cohort:
    """The people, and how their scans are made.

    Parameters
    ----------
    data : Path
        Folder of the heads and label maps.
    run : Path or None
        A run with prepared scans, which are then changed in place of the heads.
    preprocessor : Preprocessor
        Of the model.
    """

    data: Path
    run: Path | None
    preprocessor: Preprocessor

    def scan(self, person: str, site: SimulatedSite, rng: np.random.Generator) -> ScanState:
        """Return a person's scan from a site, preprocessed.

        Raises
        ------
        ScanError
            If the preprocessing refuses it.
        """
        head = self.data / "t1" / f"{person}_T1w.nii.gz"
        if self.run is None:
            cavity = self.data / "dlmuse" / f"{person}_dseg.nii.gz"
            return scan_head(head, cavity, site, self.preprocessor, rng)
        scan = StudyScan(
            name=person,
            participant_id=person,
            session_id=None,
            chronological_age=float("nan"),
            t1w=head,
            labels=None,
        )
        prepared = PreparedCohort(self.run / "prepared", self.preprocessor)
        prepared.prepare(scan)
        return scan_prepared(prepared.read(scan), site, self.preprocessor, rng)


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
        "flags": ";".join(verdict.flags),
    }


def summary(name: str, rows: pd.DataFrame, unchanged: pd.Series, half: float) -> dict[str, Any]:
    """Return what became of the people at one site; `half` is the half-width in years."""
    given = rows.dropna(subset=["predicted_age"])
    before = unchanged.loc[given["participant_id"]].to_numpy(dtype=float)
    age = given["predicted_age"].to_numpy(dtype=float)
    gap = age - given["chronological_age"].to_numpy(dtype=float)
    factor = given["interval_widening"].to_numpy(dtype=float)
    flags = [set(text.split(";")) for text in given["flags"]]
    return {
        "site": name,
        "scans": len(rows),
        "no_age": len(rows) - len(given),
        "mae": float(np.abs(gap).mean()),
        "mean_gap": float(gap.mean()),
        "mean_shift": float((age - before).mean()),
        "largest_shift": float(np.abs(age - before).max()),
        "r_unchanged": float(np.corrcoef(age, before)[0, 1]),
        "flagged_otherwise": float(np.mean([bool(found - {"", FLAG}) for found in flags])),
        "widened": float(np.mean(factor > 1)),
        "mean_factor": float(factor.mean()),
        "covered_one_width": float(np.mean(np.abs(gap) <= half)),
        "covered_widened": float(np.mean(np.abs(gap) <= half * factor)),
    }


def main() -> int:
    """Run all; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prepared", action="store_true", help="change the scans RUN prepared")
    parser.add_argument("--every", type=int, help="a multiple of the settings': fewer people")
    parser.add_argument("--settings", type=Path, default=Path(__file__).with_suffix(".toml"))
    options = parser.parse_args()
    trial = from_plain(SiteTrial, tomllib.loads(options.settings.read_text("utf-8")))
    if options.every is not None and options.every % trial.every:
        parser.error(f"--every must be a multiple of {trial.every}: others set the rule.")
    folder = options.run
    rule = read_widening(folder)
    if rule is None:
        parser.error(f"{folder} has no rule by which intervals widen: see pipelines/widening.py.")
    age_of = read_participants(options.data / "participants.tsv").labelled.table["age"]
    number_of, _ = trial.numbered(age_of)
    people = [p for p, n in number_of.items() if n % (options.every or trial.every) == 0]
    trained = read_training_scans(folder)
    if trained is None:
        parser.error(f"{folder} does not say whom it was trained on ({TRAINING_SCANS}).")
    left_out_of = trained.set_index("participant_id")["fold"]
    if not left_out_of.str.isdigit().all():
        parser.error(f"{folder} must be of a cross-validation; its members saw some or all people.")
    fold_of = left_out_of.astype(int)
    rows = []
    for fold in sorted(set(fold_of[people])):
        own = replace(rule, likeness_s=(rule.likeness_s[fold],))
        ensemble = replace(load_fold(folder, fold), widening=own)
        preprocessor = Preprocessor(ensemble.card.preprocess)
        cohort = Cohort(options.data, folder if options.prepared else None, preprocessor)
        for person in (p for p in people if fold_of[p] == fold):
            for place, site in enumerate((UNCHANGED, *trial.site)):
                known = {
                    "rule": rule.identity,
                    "participant_id": person,
                    "site": site.name,
                    "chronological_age": float(age_of[person]),
                }
                # With another model, rule or way everything starts anew.
                way = "prepared" if options.prepared else "heads"
                kept = options.out / "ages" / way / ensemble.model_id
                done = kept / f"{person}_{place:02d}.json"
                row = json.loads(done.read_text("utf-8")) if done.is_file() else {}
                if not known.items() <= row.items():
                    rng = trial.generator(number_of[person], place)
                    try:
                        row = known | predicted(ensemble, cohort.scan(person, site, rng))
                    except ScanError as error:
                        row = known | {"predicted_age": None, "flags": f"no age: {error.found}"}
                    write_json(done, row)
                rows.append(row)
                print(f"{person} {site.name}: {row['predicted_age']}", flush=True)
    ages = pd.DataFrame(rows)
    at = {name: ages[ages["site"] == name] for name in ages["site"].unique()}
    unchanged = at[UNCHANGED.name].set_index("participant_id")["predicted_age"]
    half = ensemble.card.half_width
    found = [summary(name, group, unchanged, half) for name, group in at.items()]
    changed = ages[ages["site"] != UNCHANGED.name]
    table = pd.DataFrame([*found, summary("all simulated sites", changed, unchanged, half)])
    write_table(options.out / "ages.tsv", ages)
    write_table(options.out / "sites.tsv", table)
    text = markdown_table(table, 2)
    write_text(options.out / "sites.md", text)
    print(text)
    print(f"Written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
