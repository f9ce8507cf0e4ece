"""The recipes for clusters: what they ask for, and what they start, with stand-ins for both."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

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


PROFILE = PIPELINES / "profiles" / "kubernetes"
VOLUME = {"IMAGE": "registry/ermoe_ba:1", "CLAIM": "heads", "MOUNT": "/data"}


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    """Return a folder with a kubectl that keeps what it is given, and says what `answer` holds."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" >{tmp_path}/asked\n'
        f'[ "$1" != create ] || cat >{tmp_path}/job.yaml\n'
        f'cat {tmp_path}/answer; exit "${{ENDS:-0}}"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    (tmp_path / "answer").write_text("ermoe-ba-abc", encoding="utf-8")
    return program.parent


def kubernetes(
    kubectl: Path, script: str, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        # As snakemake calls it: what is no program fails.
        [PROFILE / script, *arguments],
        env={"PATH": f"{kubectl}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_job_of_snakemake_is_a_job_on_the_shared_volume(kubectl: Path) -> None:
    # A space, a quote, and what YAML would take for a comment.
    script = "/data/it's a #1/snakejob.sh"
    done = kubernetes(kubectl, "submit.sh", "5000", "7", "2", script, **VOLUME)
    assert (done.returncode, done.stdout) == (0, "ermoe-ba-abc"), done.stderr
    job = yaml.safe_load((kubectl.parent / "job.yaml").read_text(encoding="utf-8"))
    # Snakemake alone begins anew what failed; seven minutes are 420 s.
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 420)
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsUser": os.getuid(), "runAsGroup": os.getgid()}
    (container,) = pod["containers"]
    assert (container["image"], container["command"]) == (VOLUME["IMAGE"], ["sh", script])
    assert container["resources"] == {
        "requests": {"cpu": "2", "memory": "5000M"},
        "limits": {"memory": "5000M"},
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"data": "/data", "caches": "/tmp"}
    volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
    claim = {"persistentVolumeClaim": {"claimName": "heads"}}
    assert volumes == {"data": claim, "caches": {"emptyDir": {}}}


def test_a_pod_of_snakemake_is_as_locked_down_as_one_without(
    kubectl: Path, pod: dict[str, Any]
) -> None:
    kubernetes(kubectl, "submit.sh", "2500", "7", "1", "/data/x.sh", **VOLUME)
    job = yaml.safe_load((kubectl.parent / "job.yaml").read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"] == pod["securityContext"]


@pytest.mark.parametrize("script", ["/home/x.sh", "/database/x.sh"])
def test_a_script_that_no_pod_would_see_is_refused(kubectl: Path, script: str) -> None:
    done = kubernetes(kubectl, "submit.sh", "2500", "7", "1", script, **VOLUME)
    assert done.returncode == 2
    assert "below MOUNT=/data" in done.stderr
    assert not (kubectl.parent / "asked").exists()


@pytest.mark.parametrize("missing", VOLUME)
def test_image_claim_and_mount_must_be_named(kubectl: Path, missing: str) -> None:
    named = {name: value for name, value in VOLUME.items() if name != missing}
    done = kubernetes(kubectl, "submit.sh", "2500", "7", "1", "/data/x.sh", **named)
    assert done.returncode == 2
    assert f"{missing}: must name" in done.stderr


def test_a_job_that_the_cluster_refuses_is_an_error(kubectl: Path) -> None:
    done = kubernetes(kubectl, "submit.sh", "2500", "7", "1", "/data/x.sh", **VOLUME, ENDS="1")
    assert done.returncode == 1


# The conditions that hold, as kubectl prints them; the first two of each end tell nothing yet.
@pytest.mark.parametrize(
    ("answer", "ends", "status"),
    [
        ("job ", "0", "running"),
        ("job Suspended ", "0", "running"),
        ("job FailureTarget ", "0", "running"),
        ("job SuccessCriteriaMet ", "0", "running"),
        ("job FailureTarget Failed ", "0", "failed"),
        ("job SuccessCriteriaMet Complete ", "0", "success"),
        ("job Complete ", "0", "success"),
        # Deleted by somebody; out of reach for once.
        ("", "0", "failed"),
        ("", "1", "running"),
    ],
)
def test_snakemake_is_told_how_a_job_stands(
    kubectl: Path, answer: str, ends: str, status: str
) -> None:
    (kubectl.parent / "answer").write_text(answer, encoding="utf-8")
    done = kubernetes(kubectl, "status.sh", "ermoe-ba-abc", ENDS=ends)
    assert (done.returncode, done.stdout) == (0, f"{status}\n")
    asked = (kubectl.parent / "asked").read_text(encoding="utf-8").splitlines()
    assert asked[:4] == ["get", "job", "ermoe-ba-abc", "--ignore-not-found"]


def test_jobs_that_are_cancelled_are_deleted(kubectl: Path) -> None:
    assert kubernetes(kubectl, "cancel.sh", "ermoe-ba-a", "ermoe-ba-b").returncode == 0
    asked = (kubectl.parent / "asked").read_text(encoding="utf-8").split()
    assert asked == [
        "delete",
        "job",
        "--ignore-not-found",
        "--wait=false",
        "ermoe-ba-a",
        "ermoe-ba-b",
    ]


def test_the_profile_calls_scripts_that_are_there() -> None:
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text(encoding="utf-8"))
    root = PIPELINES.parent
    for command in ("submit", "status", "cancel"):
        script = profile[f"cluster-generic-{command}-cmd"].split()[0]
        assert root / script == PROFILE / f"{command}.sh"
