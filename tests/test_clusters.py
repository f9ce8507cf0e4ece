"""The recipes for clusters: what they ask for, and what they start, with stand-ins for both."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PIPELINES = Path(__file__).parents[1] / "pipelines"
SCRIPTS = ("sbatch_predict.sh", "sbatch_train.sh")


def directives(script: str) -> dict[str, str]:
    """Return what sbatch reads: it stops at the first line that is neither blank nor a comment."""
    found = {}
    for line in (PIPELINES / script).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            break
        if match := re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line):
            found[match[1]] = match[2] or ""
    return found


def setting(name: str) -> int:
    """Return a number that the Snakefile sets."""
    text = (PIPELINES / "Snakefile").read_text(encoding="utf-8")
    # Several may be set in one line: names and values stand in the same order.
    for names, values in re.findall(r"^([A-Z_, ]+) = ([\d, ]+)$", text, re.M):
        both = dict(zip(names.split(", "), values.split(", "), strict=True))
        if name in both:
            return int(both[name])
    raise AssertionError(name)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_directive_is_overlooked(script: str) -> None:
    text = (PIPELINES / script).read_text(encoding="utf-8")
    assert len(directives(script)) == text.count("\n#SBATCH ") > 0


def test_a_task_asks_for_what_snakemake_would_ask_for() -> None:
    asked = directives("sbatch_predict.sh")
    assert asked["mem"] == f"{setting('MEMORY_MB')}M"
    hours, minutes, seconds = map(int, asked["time"].split(":"))
    # The shards of the script's own example.
    text = (PIPELINES / "sbatch_predict.sh").read_text(encoding="utf-8")
    size = re.search(r"cut SCANS\.tsv --size (\d+)", text)
    assert size
    expected = setting("SECONDS_TO_START") + int(size[1]) * setting("SECONDS_A_SCAN")
    assert 3600 * hours + 60 * minutes + seconds == expected


@pytest.fixture
def pod() -> dict[str, Any]:
    """Return what runs a shard under Kubernetes."""
    text = (PIPELINES / "kubernetes_predict.yaml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["spec"]
    # Without it no pod would know its shard.
    assert job["completionMode"] == "Indexed"
    (container,) = job["template"]["spec"]["containers"]
    return container


def test_a_pod_asks_for_what_snakemake_would_ask_for(pod: dict[str, Any]) -> None:
    memory = f"{setting('MEMORY_MB')}M"
    asked = pod["resources"]
    assert (asked["requests"], asked["limits"]) == (
        {"cpu": "1", "memory": memory},
        {"memory": memory},
    )


@pytest.mark.parametrize("ends", [0, 1, 2])
def test_a_pod_predicts_its_shard(pod: dict[str, Any], tmp_path: Path, ends: int) -> None:
    program = tmp_path / "bin" / "ermoe-ba"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@"\nexit {ends}\n', encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        pod["command"],
        env={"PATH": f"{program.parent}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": "12"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Scans that fail fail no pod.
    assert (done.returncode == 0) == (ends < 2), done.stderr
    shard = "/data/RESULTS/shards/00012"
    told = ["predict", f"{shard}/scans.tsv", "--out", shard, "--resume"]
    assert done.stdout.splitlines() == told


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
