"""Data sets of empty files, and whose scans were found in them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ermoe_ba.inputs import Selection
from ermoe_ba.naming import ScanName

ALL = Selection()


def whose(scans: list[ScanName]) -> list[tuple[str, str, str | None, float | None]]:
    return [(s.path.name, s.participant_id, s.session_id, s.chronological_age) for s in scans]


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Path]:
    """Lay out a data set of empty files: only names and tables are read here."""
    pytest.importorskip("bids")

    def make(*names: str, participants: str | None = None, **sessions: str) -> Path:
        root = tmp_path / "dataset"
        root.mkdir()
        described = {"Name": "Heads", "BIDSVersion": "1.10.0"}
        (root / "dataset_description.json").write_text(json.dumps(described), encoding="utf-8")
        for name in names:
            folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
            folder = root.joinpath(*folders, "anat")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        if participants is not None:
            (root / "participants.tsv").write_text(participants, encoding="utf-8")
        for label, text in sessions.items():
            path = root / f"sub-{label}" / f"sub-{label}_sessions.tsv"
            path.write_text(text, encoding="utf-8")
        return root

    return make
