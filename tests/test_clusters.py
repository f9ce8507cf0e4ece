"""The recipes for Slurm: what they ask for, and what they start, with stand-ins for both."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from snakefile import snakefile_number

from ermoe_ba.cli.parser import build_parser

PIPELINES = Path(__file__).parents[1] / "pipelines"
SCRIPTS = ("sbatch_folds.sh", "sbatch_predict.sh", "sbatch_train.sh")


def directives(script: str) -> dict[str, str]:
    """Return what sbatch reads: it stops at the first line that is neither blank nor a comment."""
    found = {}
    for line in (PIPELINES / script).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            break
        if match := re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line):
            found[match[1]] = match[2] or ""
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_directive_is_overlooked(script: str) -> None:
    text = (PIPELINES / script).read_text(encoding="utf-8")
    assert len(directives(script)) == text.count("\n#SBATCH ") > 0


def test_a_task_asks_for_what_snakemake_would_ask_for() -> None:
    asked = directives("sbatch_predict.sh")
    assert asked["mem"] == f"{snakefile_number('MEMORY_MB')}M"
    hours, minutes, seconds = map(int, asked["time"].split(":"))
    # The shards of the script's own example.
    text = (PIPELINES / "sbatch_predict.sh").read_text(encoding="utf-8")
    size = re.search(r"cut SCANS\.tsv --size (\d+)", text)
    assert size
    expected = snakefile_number("SECONDS_TO_START") + int(size[1]) * snakefile_number(
        "SECONDS_A_SCAN"
    )
    assert 3600 * hours + 60 * minutes + seconds == expected


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Return a folder of stand-ins: srun starts its command once, torchrun tells of its call."""
    stand_ins = {
        # What the real one does with a list of nodes: one name a line.
        "scontrol": 'test "$1 $2" = "show hostnames" && printf "%s\\n" "$3-7" "$3-8"',
        "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
        "torchrun": 'printf "%s\\n" "$OMP_NUM_THREADS" "$@"; exit "${ENDS:-0}"',
    }
    for name, text in stand_ins.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        program.chmod(0o755)
    return tmp_path / "bin"


def train(cluster: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    job = {
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NODELIST": "node",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
    }
    return subprocess.run(
        ["bash", PIPELINES / "sbatch_train.sh", *arguments],
        env={**os.environ, "PATH": f"{cluster}:{os.environ['PATH']}", **job, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("processes", "threads"), [(1, "8"), (4, "2"), (3, "2")])
def test_all_nodes_meet_at_the_first(cluster: Path, processes: int, threads: str) -> None:
    words = ["cross-validate", "a recipe.toml", "--out", "RUN"]
    done = train(cluster, *words, PROCESSES=str(processes))
    assert done.returncode == 0, done.stderr
    given, *told = done.stdout.splitlines()
    # Eight cores of a node, shared by its processes.
    assert given == threads
    # 1,234,567 = 61 * 20,000 + 14,567.
    meet = "--rdzv-id 1234567 --rdzv-backend c10d --rdzv-endpoint node-7:34567"
    start = f"--nnodes 2 --nproc-per-node {processes} {meet} -m ermoe_ba.cli.main"
    assert told == [*start.split(), *words]


@pytest.mark.parametrize("job", [0, 19_999, 20_000, 2**31 - 1])
def test_the_port_is_open_to_any_user(cluster: Path, job: int) -> None:
    told = train(cluster, "train", SLURM_JOB_ID=str(job)).stdout
    port = re.search(r"node-7:(\d+)", told)
    assert port
    assert 1024 < int(port[1]) < 2**16


def test_a_training_that_fails_fails_its_job(cluster: Path) -> None:
    assert train(cluster, "train", ENDS="3").returncode == 3


def test_a_call_without_a_command_says_how(cluster: Path) -> None:
    done = train(cluster)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch --nodes=N ")


def folds(cluster: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Call the script of the array with stand-ins that tell what they were given."""
    stand_ins = {
        # As with --parsable on a federation: the number, and the cluster.
        "sbatch": 'printf "%s\\n" "$@" "" >>"$CALLS"; printf "4711;north\\n"; exit "${ENDS:-0}"',
        "ermoe-ba": 'printf "%s\\n" "$OMP_NUM_THREADS" "$@"; exit "${ENDS:-0}"',
    }
    for name, text in stand_ins.items():
        (cluster / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (cluster / name).chmod(0o755)
    given = {"PATH": f"{cluster}:{os.environ['PATH']}", "CALLS": str(cluster / "calls")}
    return subprocess.run(
        ["bash", PIPELINES / "sbatch_folds.sh", *arguments],
        env={**os.environ, **given, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


WORDS = ["a recipe.toml", "--participants", "p.tsv", "--out", "RUN"]


def test_folds_wait_for_the_one_job_that_prepares(cluster: Path) -> None:
    done = folds(cluster, "5", *WORDS)
    assert done.returncode == 0, done.stderr
    script = str(PIPELINES / "sbatch_folds.sh")
    after = ["--dependency=afterok:4711", "--kill-on-invalid-dep=yes", "--array=0-4"]
    calls = [["--parsable", script, "prepare", *WORDS], [*after, script, "fold", *WORDS]]
    told = (cluster / "calls").read_text(encoding="utf-8").splitlines()
    assert told == [word for call in calls for word in [*call, ""]]
    # Both ask for as many cores, since they are the same script.
    cores = directives("sbatch_folds.sh")["cpus-per-task"]
    first = folds(cluster, *calls[0][2:], SLURM_CPUS_PER_TASK=cores).stdout.splitlines()
    # Workers each keep a core busy.
    assert first == ["1", "cross-validate", *WORDS, "--jobs", cores, "--prepare-only"]
    task = {"SLURM_CPUS_PER_TASK": cores, "SLURM_ARRAY_TASK_ID": "3"}
    fold = folds(cluster, "fold", *WORDS, **task).stdout.splitlines()
    assert fold == [cores, "cross-validate", *WORDS, "--fold", "3"]
    # What both start is a command that there is.
    for started in (first, fold):
        options = build_parser().parse_args(started[1:])
        assert options.recipe == "a recipe.toml"


def test_no_array_is_submitted_after_a_refusal(cluster: Path) -> None:
    assert folds(cluster, "5", *WORDS, ENDS="1").returncode == 1
    assert (cluster / "calls").read_text(encoding="utf-8").count("sbatch_folds.sh") == 1


def test_a_fold_that_fails_fails_its_task(cluster: Path) -> None:
    task = {"SLURM_CPUS_PER_TASK": "8", "SLURM_ARRAY_TASK_ID": "0", "ENDS": "3"}
    assert folds(cluster, "fold", *WORDS, **task).returncode == 3


@pytest.mark.parametrize("words", [[], ["5"], WORDS, ["0", *WORDS], ["5.5", *WORDS]])
def test_folds_without_a_number_of_them_are_refused(cluster: Path, words: list[str]) -> None:
    done = folds(cluster, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: bash ")
    assert not (cluster / "calls").exists()
