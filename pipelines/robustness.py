"""Change real heads, predict them again, and state how far their ages move.

Command: python pipelines/robustness.py DATA OUT [--model NAME|PATH] [--settings TOML]
Input:   DATA/participants.tsv and DATA/t1/<id>_T1w.nii.gz; what to do: pipelines/robustness.toml.
Time:    one prediction for each head and condition: 8 heads and 15 conditions take about 15 minutes
         of one core. A run that was stopped goes on. Result in OUT: ages.tsv (one row a head and
         condition), robustness.tsv and robustness.md (one row a condition), robustness.png. Exit
         code 1 where a change that loses nothing moved an age beyond its tolerance.
"""

import argparse
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from pictures import write_pictures

from ermoe_ba.changes import CHANGES
from ermoe_ba.checkpoint import load_ensemble
from ermoe_ba.cohort import read_participants
from ermoe_ba.config import from_plain
from ermoe_ba.errors import ScanError
from ermoe_ba.io import write_json, write_text, write_volume
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.predict import predict_age
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.quality import assess, load_limits, load_reference, measure_figures
from ermoe_ba.reliability import agreement_icc, within_subject_sd
from ermoe_ba.report.robustness import draw_robustness
from ermoe_ba.t1w import read_t1w
from ermoe_ba.tables import markdown_table, write_table


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One change; `lossless` where it loses nothing of the scan."""

    name: str
    change: str
    amount: float
    lossless: bool


@dataclass(frozen=True, kw_only=True)
class Retest:
    """Two conditions that hold a head's information twice."""

    name: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Content of robustness.toml."""

    heads: int
    lossless_tolerance: float
    retest_sd: float
    retest_icc: float
    condition: tuple[Condition, ...]
    retest: tuple[Retest, ...]


REFERENCE = Condition(name="as it is", change="scale_values", amount=1.0, lossless=True)


def predict_all(settings: Settings, data: Path, out: Path, model: str) -> pd.DataFrame:
    """Predict every head under every condition; return one row each."""
    people = read_participants(data / "participants.tsv").labelled.table.sort_values("age")
    chosen = people.iloc[np.linspace(0, len(people) - 1, settings.heads).round().astype(int)]
    ensemble = load_ensemble(model, "cpu")
    preprocessor = Preprocessor(ensemble.card.preprocess)
    reference, limits = load_reference(), load_limits().limits
    rows = []
    for number, (person, age) in enumerate(chosen["age"].items()):
        head = read_t1w(data / "t1" / f"{person}_T1w.nii.gz")
        for place, condition in enumerate((REFERENCE, *settings.condition)):
            # Named after model and place: another model or order of the settings starts anew.
            done = out / "ages" / ensemble.model_id / f"{person}_{place:02d}.json"
            known = {"condition": condition.name, "amount": condition.amount}
            before = json.loads(done.read_text("utf-8")) if done.is_file() else {}
            if known.items() <= before.items():
                rows.append(before)
                continue
            rng = np.random.default_rng([number, place])
            row = {"participant_id": person, "chronological_age": age, **known}
            with TemporaryDirectory() as folder:
                path = Path(folder) / "head_T1w.nii.gz"
                write_volume(path, CHANGES[condition.change](head, condition.amount, rng))
                try:
                    state = preprocessor(path)
                except ScanError as error:
                    row |= {"predicted_age": None, "flags": f"{type(error).__name__}"}
                else:
                    figures = state.figures | measure_figures(state.image, state.mask, reference)
                    row |= {
                        "predicted_age": predict_age(ensemble, state).predicted_age,
                        "flags": ";".join(assess(limits, figures, state.flags).flags),
                    }
            write_json(done, row)
            rows.append(row)
            print(f"{person} {condition.name}: {row['predicted_age']}", flush=True)
    return pd.DataFrame(rows)


def summarise(ages: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return one row a condition: how far ages moved from those of the heads as they are."""
    wide = ages.pivot(index="participant_id", columns="condition", values="predicted_age")
    rows = []
    for condition in settings.condition:
        moved = (wide[condition.name] - wide[REFERENCE.name]).astype(float)
        flags = ages.loc[ages["condition"] == condition.name, "flags"]
        rows.append(
            {
                "condition": condition.name,
                "lossless": condition.lossless,
                "heads": int(moved.notna().sum()),
                "mean_years": moved.mean(),
                "mean_absolute_years": moved.abs().mean(),
                "largest_years": moved.abs().max(),
                "flagged": int((flags != "").sum()),
            }
        )
    return pd.DataFrame(rows)


def main() -> int:
    """Run all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--settings", type=Path, default=Path(__file__).with_suffix(".toml"))
    options = parser.parse_args()
    settings = from_plain(Settings, tomllib.loads(options.settings.read_text("utf-8")))
    ages = predict_all(settings, options.data, options.out, options.model)
    table = summarise(ages, settings)
    wide = ages.pivot(index="participant_id", columns="condition", values="predicted_age")
    retests = []
    for pair in settings.retest:
        values = wide[[pair.first, pair.second]].dropna().to_numpy(dtype=float)
        icc, sd = agreement_icc(values), within_subject_sd(values)
        met = icc >= settings.retest_icc and sd <= settings.retest_sd
        retests.append(
            {"pair": pair.name, "heads": len(values), "icc_2_1": icc, "sd_years": sd, "met": met}
        )
    write_table(options.out / "ages.tsv", ages)
    write_table(options.out / "robustness.tsv", table)
    text = markdown_table(table, 3) + "\n" + markdown_table(pd.DataFrame(retests), 3)
    write_text(options.out / "robustness.md", text)
    picture = draw_robustness(wide, table, REFERENCE.name, settings.lossless_tolerance)
    write_pictures(options.out, {"robustness": picture})
    print(text)
    lossless = table[table["lossless"]]
    # A head that was not predicted at all is no head that stayed where it was.
    kept = (lossless["largest_years"] <= settings.lossless_tolerance) & (
        lossless["heads"] == wide.shape[0]
    )
    print(f"Written: {options.out}")
    return 0 if kept.all() else 1


if __name__ == "__main__":
    sys.exit(main())
