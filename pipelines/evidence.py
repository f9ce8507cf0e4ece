"""Say with numbers whether the maps show where the age is read.

Command: python pipelines/evidence.py OUT [--part NAME ...] [--stem taught|shipped]
         [--run RUN --data DATA] [--settings TOML]; OUT may be given again: parts that the same
         settings, stem and run made are kept, the rest made; each that goes is named.
Input:   nothing for the planted cohorts, which are simulated; for the parts `real` and
         `softmax_routing`, RUN is a finished run of `ermoe-ba cross-validate` and DATA its data
         (dlmuse/<id>_dseg.nii.gz, MUSE labels).
Time:    of one core, about 3 s a subject and five minutes more a planted cohort, so that all 3,220
         subjects take some three hours; 4 minutes once for the taught stem; `real` 20 s,
         `softmax_routing` half a minute a fold. 6 GB with the largest cohort, 1,260 subjects.
Result:  OUT/cohorts.tsv (one row a planted cohort: was it seen, learnt, found), OUT/evidence.tsv
         (one row a cohort, network and method), OUT/evidence.json (all figures); figures as PNG:
         planted and curves; and, each with the table of its name, concordance, experts_used (errors
         with experts removed), sanity (random weights, shuffled ages) and emergence (experts
         against random and softmax routing); exit code 1 where a cohort was not learnt, or a target
         of the settings missed.
"""

import argparse
import sys
import tomllib
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from evidence_results import REAL, RIVAL, gather
from safetensors.numpy import save_file

from ermoe_ba.assets import template
from ermoe_ba.atlas import load_atlas
from ermoe_ba.attribution.kept_part import KeptPart, digests, files_digest
from ermoe_ba.attribution.out_of_fold import read_out_of_fold
from ermoe_ba.attribution.phantom_scans import PhantomScans
from ermoe_ba.attribution.planted import Describer, PlantedCohort
from ermoe_ba.attribution.regions import PAIRS, relative_volumes, token_shares
from ermoe_ba.attribution.rival_routing import rival_routing
from ermoe_ba.attribution.run_anatomy import REVISION as ANATOMY_REVISION
from ermoe_ba.attribution.run_anatomy import emergence, one_by_one
from ermoe_ba.attribution.taught_stem import LessonConfig, taught_stem
from ermoe_ba.attribution.trial import TrialConfig, run_trial
from ermoe_ba.attribution.trial_figures import (
    Targets,
    agreement_of_halves,
    curve_rows,
    map_figures,
    verdict,
)
from ermoe_ba.attribution.trial_maps import IDEAL, trial_maps
from ermoe_ba.checkpoint import Ensemble, load_ensemble
from ermoe_ba.concordance import concordance_table, region_years
from ermoe_ba.config import from_plain
from ermoe_ba.io import write_whole
from ermoe_ba.metrics import age_metrics
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.dataset import REVISION
from ermoe_ba.phantom.floors import latent_floor, volume_floor
from ermoe_ba.training.recipe import Recipe, read_recipe

# Whose eyes describe the planted cohorts.
TAUGHT, SHIPPED = STEMS = ("taught", "shipped")
# Draws of the floor's Monte Carlo: a standard error of about 0.1 years.
FLOOR_DRAWS = 400


@dataclass(frozen=True, kw_only=True)
class People:
    """How many there are in a planted cohort, and how far their heads differ in shape."""

    subjects: int
    shape_variation: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Content of evidence.toml."""

    base: str
    model: str
    num_epochs: int
    num_variants: int
    phantom: PhantomConfig
    lessons: LessonConfig
    trial: TrialConfig
    targets: Targets
    planted: dict[str, tuple[str, ...]]
    people: dict[str, People]
    seen_as: dict[str, str]
    expected: dict[str, int]


def describer(
    stem: str, settings: Settings, recipe: Recipe, ensemble: Ensemble, out: Path
) -> Describer:
    """Return the eyes that a planted cohort is seen with."""
    if stem == SHIPPED:
        return Describer(ensemble.members[0], ensemble.model_id)
    assert recipe.tissue is not None, "the base recipe teaches its stem"
    return taught_stem(
        settings.lessons,
        tissue=recipe.tissue,
        model=ensemble.card.model,
        tokens=ensemble.tokens,
        preprocess=ensemble.card.preprocess,
        folder=out / "stems",
        tested=settings.phantom,
    )


def planted_part(
    name: str, stem: str, settings: Settings, base: Path, out: Path
) -> dict[str, object]:
    """Make a planted cohort, train on it and measure its maps."""
    ensemble, recipe = load_ensemble(settings.model), read_recipe(base)
    # Networks of the model's shape: of an atlas, they know what its weights hold.
    tokens = ensemble.members[0].atlas_shares.placed(ensemble.tokens)
    people, regions = settings.people[name], tuple(settings.planted[name])
    config = replace(settings.phantom, only=regions, shape_variation=people.shape_variation)
    scans = PhantomScans(config, ensemble.card.preprocess)
    eyes = describer(stem, settings, recipe, ensemble, out)
    age = replace(recipe.age, num_epochs=settings.num_epochs, num_variants=settings.num_variants)
    cohort = PlantedCohort(scans, eyes, age, out / "described")
    described, ages = cohort.described(people.subjects), cohort.ages(people.subjects)
    trial = run_trial(
        described,
        ages,
        tokens=tokens,
        model=ensemble.card.model,
        age=age,
        config=settings.trial,
    )
    region, brain = tokens.held_ml(scans.planted_mask()), tokens.held_ml(scans.brain_mask())
    maps = trial_maps(trial, ages, region, brain)
    arrays = {key: each.importance_dt for key, each in maps.items()}
    arrays |= {"region": region, "planted": scans.planted_mask().data}
    contiguous = {key: np.ascontiguousarray(values) for key, values in arrays.items()}
    write_whole(out / f"{name}.safetensors", lambda partial: save_file(contiguous, partial))
    (ideal_t,) = maps[IDEAL].importance_dt
    figures = map_figures(trial, maps, region, brain, settings.targets.least_share)
    floor = volume_floor(config, FLOOR_DRAWS)
    errors = age_metrics(ages, trial.predicted_n)
    return {
        "stem": eyes.identity,
        **asdict(people),
        "region_ml": float(region.sum()),
        "share_of_brain": float(region.sum() / brain.sum()),
        "stem_follows": cohort.stem_follows(described[:, 0], settings.seen_as[name], ideal_t),
        "floor_biological_age": latent_floor(config),
        "floor_planted_volumes": floor,
        "ages": errors,
        "verdict": verdict(figures, errors, floor, settings.targets),
        "agreement_of_halves": agreement_of_halves(trial, ages),
        "probe": trial.probe,
        "maps": figures,
        "curves": curve_rows(name, trial),
    }


def real_part(settings: Settings, run: Path, data: Path) -> dict[str, object]:
    """Hold contributions of a real cohort against its volumes, and routing against anatomy."""
    seen = read_out_of_fold(run)
    ages = seen.table["chronological_age"].to_numpy(dtype=float)
    share_tr = token_shares(seen.tokens, load_atlas().dseg, template("desc-brain_mask"))
    paths = [data / "dlmuse" / f"{p}_dseg.nii.gz" for p in seen.table["participant_id"]]
    volumes = np.stack([relative_volumes(path) for path in paths])
    years = region_years(seen.years_nt, share_tr)
    table = concordance_table(years, volumes, ages, PAIRS, settings.expected)
    everyone = np.ones(len(ages), dtype=bool)
    return {
        "scans": len(ages),
        "ages": age_metrics(ages, seen.table["predicted_age"].to_numpy(dtype=float)),
        "concordance": table.to_dict("records"),
        "specialisation": emergence(seen, everyone, share_tr, settings.trial.seed),
    }


def rival_part(settings: Settings, base: Path, run: Path) -> dict[str, object]:
    """Train a softmax gate on each fold; return what its experts and this run's know of anatomy."""
    seen = read_out_of_fold(run)
    share_tr = token_shares(seen.tokens, load_atlas().dseg, template("desc-brain_mask"))
    seed, recipe, fold_n = settings.trial.seed, read_recipe(base), seen.table["fold"].to_numpy()
    softmax = [
        (rival_routing(run, recipe, "softmax", fold, seed), seen.fractions_ntc[fold_n == fold])
        for fold in np.unique(fold_n).tolist()
    ]
    own = emergence(seen, np.ones(len(fold_n), dtype=bool), share_tr, seed, starts=1)
    # None of a gate's experts is tied to a region.
    rival = one_by_one(softmax, 0, share_tr, seed)
    return {"specialisation": own | {f"softmax_{name}": told for name, told in rival.items()}}


def sources(
    settings: Settings, base: Path, model_id: str, options: argparse.Namespace
) -> dict[str, dict[str, str]]:
    """Return what decides about each part's figures; parts of a run only where one is given."""
    recipe, trial = read_recipe(base).text, asdict(settings.trial)
    known = {
        name: digests(
            model=model_id,
            recipe=recipe,
            stem=[options.stem, asdict(settings.lessons) if options.stem == TAUGHT else None],
            planted=[regions, asdict(settings.people[name]), settings.seen_as[name]],
            phantom=[settings.phantom.describe(), REVISION],
            training=[settings.num_epochs, settings.num_variants],
            trial=trial,
            targets=asdict(settings.targets),
        )
        for name, regions in settings.planted.items()
    }
    if options.run and options.data:
        # A run's members and its tables of predictions.
        common = {
            "run": files_digest(options.run.glob("fold-*")),
            "seed": settings.trial.seed,
            "anatomy": ANATOMY_REVISION,
        }
        labels = files_digest((options.data / "dlmuse").glob("*_dseg.nii.gz"))
        known[REAL] = digests(**common, labels=labels, expected=settings.expected)
        known[RIVAL] = digests(**common, recipe=recipe)
    return known


def main() -> int:
    """Run what is missing; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", nargs="+", help="default: all planted cohorts, and real with RUN")
    parser.add_argument("--stem", choices=STEMS, default=TAUGHT, help="default: taught")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--settings", type=Path, default=Path(__file__).with_suffix(".toml"))
    options = parser.parse_args()
    settings = from_plain(Settings, tomllib.loads(options.settings.read_text("utf-8")))
    base = options.settings.parent / settings.base
    known = [*settings.planted, REAL, RIVAL]
    wanted = options.part or [*settings.planted, *([REAL, RIVAL] if options.run else [])]
    if unknown := set(wanted) - set(known):
        parser.error(f"--part must be of {', '.join(known)}; found {', '.join(unknown)}.")
    if {REAL, RIVAL} & set(wanted) and not (options.run and options.data):
        parser.error(f"the parts {REAL} and {RIVAL} need --run RUN and --data DATA.")
    torch.set_num_threads(1)
    ensemble = load_ensemble(settings.model)
    made_of = sources(settings, base, ensemble.model_id, options)
    files = {name: KeptPart(options.out / f"{name}.json", made_of.get(name, {})) for name in known}
    for name in wanted:
        if others := files[name].differs():
            print(f"{name}: made anew; what stands is of another {', '.join(others)}.", flush=True)
        if name == REAL:
            make = partial(real_part, settings, options.run, options.data)
        elif name == RIVAL:
            make = partial(rival_part, settings, base, options.run)
        else:
            make = partial(planted_part, name, options.stem, settings, base, options.out)
        files[name].read_or_make(make)
        print(f"done: {name}", flush=True)
    parts = {name: part for name in known if (part := files[name].read()) is not None}
    for name in known:
        if name not in parts and (others := files[name].differs()):
            of = f"of another {', '.join(others)}" if name in made_of else "of a run; give --run"
            print(f"{name}: left out; what stands is {of}.")
    met = gather(parts, list(settings.planted), settings.targets, ensemble, options.out)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
