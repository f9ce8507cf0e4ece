"""What evidence.py writes and prints of its parts: tables, and a figure of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pictures import write_pictures
from safetensors.numpy import load_file

from ermoe_ba.assets import template
from ermoe_ba.attribution.trial import NETWORKS, TRAINED
from ermoe_ba.attribution.trial_figures import Targets, cohort_table, map_table
from ermoe_ba.attribution.trial_maps import IDEAL
from ermoe_ba.checkpoint import Ensemble
from ermoe_ba.io import write_json
from ermoe_ba.report.evidence import PlantedRow, draw_concordance, draw_curves, draw_planted
from ermoe_ba.report.evidence_checks import (
    draw_emergence,
    draw_experts_used,
    draw_sanity,
    emergence,
    experts_used,
    sanity,
)
from ermoe_ba.tables import write_table
from ermoe_ba.tokens import TokenGrid

# Parts that need a run of people: contributions against volumes, and another router beside them.
REAL, RIVAL = "real", "softmax_routing"


def gather(
    parts: dict[str, dict[str, Any]],
    simulated: Sequence[str],
    targets: Targets,
    ensemble: Ensemble,
    out: Path,
) -> bool:
    """Write and print what stands; return whether all targets are met.

    `simulated` are the names of the planted cohorts, in their order.
    """
    planted = {name: part for name, part in parts.items() if name in simulated}
    write_json(out / "evidence.json", parts)
    pictures = {}
    if planted:
        used = experts_used(planted, ensemble.card.model.expert_names)
        checked = sanity(planted)
        write_table(out / "experts_used.tsv", used)
        write_table(out / "sanity.tsv", checked)
        tables = {"cohorts": cohort_table(planted), "evidence": map_table(planted)}
        for name, table in tables.items():
            write_table(out / f"{name}.tsv", table)
            print(table.to_string(index=False, float_format="%.3f", na_rep=""))
        curves = pd.DataFrame([row for part in planted.values() for row in part["curves"]])
        curves = curves[curves["network"] == TRAINED]
        pictures = {
            "curves": draw_curves(curves),
            "planted": planted_picture(planted, ensemble.tokens, out),
            "experts_used": draw_experts_used(used),
            "sanity": draw_sanity(
                checked, enrichment_ratio=targets.enrichment_ratio, token_auc=targets.token_auc
            ),
        }
    if REAL in parts:
        concordance = pd.DataFrame(parts[REAL]["concordance"])
        write_table(out / "concordance.tsv", concordance)
        print(concordance.to_string(index=False, float_format="%.3f"))
        pictures["concordance"] = draw_concordance(concordance)
    if of_run := {name: parts[name] for name in (REAL, RIVAL) if name in parts}:
        emerged = emergence(of_run)
        write_table(out / "emergence.tsv", emerged)
        pictures["emergence"] = draw_emergence(emerged)
    for name in (REAL, RIVAL):
        if name in parts:
            print(f"{name}: what an expert's name tells, as a share of the experts' entropy")
            print(pd.DataFrame(parts[name]["specialisation"]).T.to_string(float_format="%.3f"))
    write_pictures(out, pictures)
    print(f"Written: {out}")
    return all(part["verdict"]["met"] for part in planted.values())


def planted_picture(planted: dict[str, dict[str, Any]], tokens: TokenGrid, out: Path) -> bytes:
    """Draw the maps of all planted cohorts."""
    brain = template("desc-brain_T1w")
    rows = []
    for name in planted:
        kept = load_file(out / f"{name}.safetensors")
        shown = {key: tokens.to_volume(kept[key].mean(axis=0)) for key in (IDEAL, *NETWORKS)}
        maps = {key.replace("_", " "): volume for key, volume in shown.items()}
        rows.append(PlantedRow(name.replace("_", " "), brain.same_grid(kept["planted"]), maps))
    return draw_planted(rows, brain)
