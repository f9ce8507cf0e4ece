"""A worker process that is killed: its scan's row says of the scan what every other row says.

Worker processes import what they run, so what they run is a script here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = """
import os, signal, sys
from pathlib import Path

import ermoe_ba.workers.predictor
from ermoe_ba.cli.main import main
from ermoe_ba.errors import ScanError
from kill_points import lay_out


class Deadly:
    def __init__(self, *settings, **more):
        pass

    def __call__(self, path, announce=None):
        if "sub-1" in path.name:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ScanError(path, must_hold="must be another", found="this one", remedy="Give another.")


# Here, so that worker processes, which import this file, have it too.
ermoe_ba.workers.predictor.Preprocessor = Deadly

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    lay_out(folder)
    scans = folder / "scans"
    (scans / "sub-1_T1w.nii.gz").rename(scans / "sub-1_ses-late_T1w.nii.gz")
    table = folder / "participants.tsv"
    table.write_text("participant_id\\tage\\nsub-0\\t30\\nsub-1\\t41.5\\nsub-2\\t50\\n", "utf-8")
    given = [scans, "--out", folder / "out", "--model", folder / "model", "--participants", table]
    options = ["--jobs", "2", "--no-report", "--no-maps", "--device", "cpu"]
    sys.exit(main(["predict", *map(str, given), *options]))
"""


@pytest.mark.slow
def test_the_row_of_a_killed_process_holds_what_is_known_of_its_scan(tmp_path: Path) -> None:
    script, folder = tmp_path / "killed.py", tmp_path / "run"
    script.write_text(SCRIPT, encoding="utf-8")
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, script, folder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert done.returncode == 1, done.stderr
    table = pd.read_csv(folder / "out" / "predictions.tsv", sep="\t", dtype=str)
    rows = table.set_index("participant_id")
    assert list(rows.index) == ["0", "1", "2"]
    assert rows["status"].tolist() == ["failed"] * 3
    assert rows["chronological_age"].tolist() == ["30.0", "41.5", "50.0"]
    # Of one that failed in a process that lived on, all but what went wrong is the same.
    for column in ("model_id", "preprocessing_id"):
        assert rows[column].notna().all()
        assert rows[column].nunique() == 1
    killed = rows.loc["1"]
    assert killed["session_id"] == "late"
    assert killed["input"] == str(folder / "scans" / "sub-1_ses-late_T1w.nii.gz")
    assert "found that it was killed or crashed" in killed["message"]
    assert "found this one" in rows.loc["0", "message"]
