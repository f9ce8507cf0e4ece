"""The recipes for Kubernetes: a pod a shard, and jobs of Snakemake, with a stand-in for kubectl."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakefile import snakefile_number

PIPELINES = Path(__file__).parents[1] / "pipelines"


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
    memory = f"{snakefile_number('MEMORY_MB')}M"
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
