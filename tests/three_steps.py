"""Train a fold of a tiny cross-validation, and write the loss of each stage's first three steps.

Command: python tests/three_steps.py TIMES FOLDER
         (one fold after the other in one process, each in a run of its own)
Result:  JSON: a list of runs, each with the losses by stage.

People, recipe and the stand-in for preprocessing are those of tests/kill_training.py; the network,
its stages and the run that calls them are real.
"""

import json
import sys
from pathlib import Path

from kill_training import RECIPE, lay_out

from ermoe_ba.tables import read_tsv
from ermoe_ba.training.cross_validate import CrossValidation
from ermoe_ba.training.recipe import read_recipe

# The stem learns tissue, then a member age.
STAGES = ("stem", "start-0")
STEPS = 3


def recipe_text() -> str:
    """Return the recipe of tests/kill_training.py, such that rounding does not grow.

    Without stages before the age, whose rounding adds up, nor a choice that would make fewer steps;
    and with read-outs that start near zero, since a ridge of 0.1 on half a dozen scans doubles what
    half precision leaves between processors.
    """
    text = RECIPE.partition("[pretrain.masked]")[0]
    assert text.count("ridge_strength = 0.1") == 1
    return text.replace("ridge_strength = 0.1", "ridge_strength = 10.0")


def curves(folder: Path, number: int) -> dict[str, list[float]]:
    """Train fold 0 in a folder of its own; return the first losses."""
    out = folder / f"run-{number}"
    recipe = read_recipe(folder / "recipe.toml")
    run = CrossValidation(recipe, folder / "participants.tsv", out, prepared=folder / "prepared")
    run.run(0)
    tables = {stage: read_tsv(out / f"fold-0_{stage}_history.tsv") for stage in STAGES}
    # Text to numbers by Python, which loses no digit.
    return {stage: [float(x) for x in table["loss"][:STEPS]] for stage, table in tables.items()}


if __name__ == "__main__":
    place = Path(sys.argv[2]).resolve()
    lay_out(place)
    (place / "recipe.toml").write_text(recipe_text(), "utf-8")
    found = [curves(place, number) for number in range(int(sys.argv[1]))]
    (place / "curves.json").write_text(json.dumps(found), "utf-8")
