"""Tables of predictions and participants, of scans that are listed."""

from pathlib import Path

import numpy as np

Scans = list[tuple[str, float, float]]


def write_predictions(path: Path, scans: Scans, folds: dict[str, int] | None = None) -> Path:
    """Write participant, chronological and predicted age; people to two folds in turn."""
    people = list(dict.fromkeys(name for name, _, _ in scans))
    folds = folds or {name: number % 2 for number, name in enumerate(people)}
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}\t{folds[name]}\t{age}\t{predicted}" for name, age, predicted in scans]
    header = "participant_id\tfold\tchronological_age\tpredicted_age"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def cohort_of(count: int = 40, seed: int = 0) -> Scans:
    random = np.random.default_rng(seed)
    ages = np.round(random.uniform(20, 79, count), 2)
    predicted = np.round(10 + 0.8 * ages + random.normal(0, 5, count), 3)
    return [
        (f"{n:03d}", float(a), float(p))
        for n, (a, p) in enumerate(zip(ages, predicted, strict=True))
    ]
