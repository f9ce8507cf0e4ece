"""The image's recipe: locks that follow the project's own pins, a context that holds its wheel."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("cpu", "cuda", "tools")


def pinned(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes by name, of a lock's text."""
    found = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock):
        match = re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry)
        if match:
            hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)
            found[canonicalize_name(match[1])] = (match[2], hashes)
    return found


def lock(name: str) -> dict[str, tuple[str, list[str]]]:
    text = (REPO / f"pipelines/container_lock_{name}.txt").read_text(encoding="utf-8")
    return pinned(text)


def test_a_lock_is_read_entry_by_entry() -> None:
    one, two = "a" * 64, "b" * 64
    text = f"# made\nA.b==1.0+cpu \\\n    --hash=sha256:{one} \\\n    --hash=sha256:{two}\nc==2\n"
    assert pinned(text) == {"a-b": ("1.0+cpu", [one, two]), "c": ("2", [])}


@pytest.mark.parametrize("name", LOCKS)
def test_every_library_of_the_image_is_held_to_a_hash(name: str) -> None:
    locked = lock(name)
    assert locked
    assert [library for library, (_, hashes) in locked.items() if not hashes] == []


@pytest.mark.parametrize("name", LOCKS)
def test_the_image_has_the_versions_that_the_tests_ran_with(name: str) -> None:
    constraints = dict(
        line.split("==")
        for line in (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    tested = {canonicalize_name(library): version for library, version in constraints.items()}
    locked = {library: version for library, (version, _) in lock(name).items()}
    shared = locked.keys() & tested.keys()
    assert shared
    # What stands behind the plus names a build, not a version.
    assert {n: locked[n].partition("+")[0] for n in shared} == {n: tested[n] for n in shared}


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_the_image_holds_what_its_commands_may_ask_for(name: str) -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    # Without them whole commands and inputs would be missing, and an image cannot be added to.
    asked = [r for extra in ("bids", "dicom", "maps") for r in extras[extra]]
    needs = [Requirement(r) for r in (*project["dependencies"], *asked)]
    locked = lock(name)
    for need in needs:
        assert need.specifier.contains(locked[canonicalize_name(need.name)][0]), need


def test_the_two_images_differ_by_pytorch_alone() -> None:
    cpu, cuda = lock("cpu"), lock("cuda")
    assert cpu.pop("torch")[0] == f"{cuda.pop('torch')[0]}+cpu"
    assert cpu.items() <= cuda.items()
    more = cuda.keys() - cpu.keys()
    assert "triton" in more
    assert all(name.startswith(("nvidia-", "cuda-")) for name in more - {"triton"}), more


def test_the_context_holds_what_the_wheel_is_made_of() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = PROJECT["project"]
    needed = {
        "pyproject.toml",
        project["readme"],
        *project["license-files"],
        *wheel["packages"],
        *wheel["force-include"],
    }
    assert needed <= allowed
    # Anything more would make a new image of a change that is none.
    assert allowed - needed == {"pipelines/container_lock_*.txt"}


# What a system that could build images answers, up to the first question of the network.
ABLE = {
    "id": "echo 0",
    "df": "echo Filesystem; echo disk 9000000000 0 9000000000",
    "podman": "exit 9",
    "runc": "exit 9",
    "mmdebstrap": "exit 9",
}


@pytest.mark.parametrize(
    ("hindered", "why"),
    [
        ({"id": "echo 1000"}, "not root"),
        ({"df": "echo Filesystem; echo disk 2 1 1"}, r"less than \d+ GB of disk free"),
        ({"apt-get": "exit 100"}, "Debian's packages cannot be reached"),
    ],
)
def test_a_system_that_cannot_build_images_is_told_why(
    tmp_path: Path, hindered: dict[str, str], why: str
) -> None:
    for name, answer in {**ABLE, **hindered}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
        program.chmod(0o755)
    done = subprocess.run(
        ["bash", REPO / "pipelines/container_check.sh", "--if-possible"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(f"== no image is built here: {why}\n", done.stdout)


def test_the_check_of_the_image_takes_no_other_argument() -> None:
    done = subprocess.run(
        ["bash", REPO / "pipelines/container_check.sh", "--if-posible"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "found --if-posible" in done.stderr


@dataclass(frozen=True)
class Checkout:
    """A checkout in which the check of the image finds stand-ins for all that it starts."""

    folder: Path

    def answer(self, program: str, text: str) -> None:
        """Let a program, by its path inside the checkout, do what a script says."""
        path = self.folder / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def check(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", self.folder / "pipelines" / "container_check.sh", *arguments],
            env={**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A system that can build, an image that is there, and whose every step ends well."""
    made = Checkout(tmp_path)
    (tmp_path / "pipelines").mkdir()
    for name in ("_setup", "_container", "container_check"):
        shutil.copy(REPO / "pipelines" / f"{name}.sh", tmp_path / "pipelines")
    made.answer("pipelines/container_build.sh", "true")
    # An environment that is whole, and holds what its two files ask for; packages are all reached.
    made.answer(
        ".venv/bin/python",
        f'case "$*" in *" download "*) ;; *) exec {shlex.quote(sys.executable)} "$@" ;; esac',
    )
    made.answer(".venv/bin/uv", "true")
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv" / ".made-in").write_text(f"{tmp_path}\n", encoding="utf-8")
    wanted = hashlib.sha256(b"\0").hexdigest()
    (tmp_path / ".venv" / ".installed-container").write_text(f"{wanted}\n", encoding="utf-8")
    for name, text in {**ABLE, "apt-get": "true", "chown": "true"}.items():
        made.answer(f"bin/{name}", text)
    # row FOLDER AGE: what a prediction leaves.
    made.answer(
        "row",
        """printf 'participant_id\\tstatus\\tpredicted_age\\nP1\\tok\\t%s\\n' "$2" """
        '>"$1/predictions.tsv"',
    )
    predicts(made, "40.5")
    made.answer(
        "bin/podman",
        'case "$*" in\n'
        "*'{{.Size}}'*) echo 1500000000 ;;\n"
        "*HealthCheck*) echo ermoe-ba info ;;\n"
        f"*' predict /input '*) {tmp_path}/row {tmp_path}/build/container/in_image 40.5 ;;\n"
        "esac",
    )
    late(made, "nothing", 0)
    return made


def predicts(checkout: Checkout, age: str) -> None:
    """Let the pip install predict an age."""
    row = checkout.folder / "row"
    checkout.answer(".venv/bin/ermoe-ba", f'mkdir -p "${{@: -1}}"; {row} "${{@: -1}}" {age}')


def late(checkout: Checkout, what: str, ends: int) -> None:
    """Let `timeout` say of one command that time is up, and run all others."""
    checkout.answer(
        "bin/timeout",
        'while [ "${1#-}" != "$1" ]; do shift; done; shift\n'
        f'case "$*" in *{shlex.quote(what)}*) exit {ends} ;; esac; exec "$@"',
    )


@pytest.mark.parametrize("arguments", [(), ("--if-possible",), ("--if-possible", "900")])
def test_an_image_that_keeps_its_promises_passes(
    checkout: Checkout, arguments: tuple[str, ...]
) -> None:
    done = checkout.check(*arguments)
    assert done.returncode == 0, done.stderr
    assert "== both: P1 40.5 years\n" in done.stdout
    assert "software and licences" in done.stdout.splitlines()[-1]


# What stands in the command of each step, and what the message calls it.
STEPS = {
    " predict /input ": "predict in the image",
    " info --json": "info in the image",
    " import bids": "the libraries of the extras in the image",
    "/pip_install": "predict with the pip install",
    "sbom.cdx.json": "sbom.cdx.json in the image",
}


# 124 where a program heeds the first signal, 137 where it must be killed, 255 where podman ends it.
@pytest.mark.parametrize("ends", [124, 137, 255])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_hangs_is_a_fault(checkout: Checkout, step: str, ends: int) -> None:
    late(checkout, step, ends)
    done = checkout.check("--if-possible", "900")
    assert done.returncode == 1
    assert re.search(f"^error: {STEPS[step]}: must end within \\d+ s; it hung", done.stderr, re.M)


@pytest.mark.parametrize("ends", [124, 137])
def test_a_machine_too_slow_to_build_is_told_and_costs_nothing(
    checkout: Checkout, ends: int
) -> None:
    late(checkout, "container_build.sh", ends)
    done = checkout.check("--if-possible", "900")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == "== the image is not checked: it was not built 900 s after the start"


def test_a_build_that_comes_too_late_is_not_begun(checkout: Checkout) -> None:
    checkout.answer("pipelines/container_build.sh", "exit 9")
    done = checkout.check("--if-possible", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("== no image is built here: the 0 s for it had gone")


# 124 and 137 here are those of a program of the build, not of timeout.
@pytest.mark.parametrize("ends", [1, 124, 137])
@pytest.mark.parametrize("arguments", [(), ("--if-possible", "900")])
def test_a_build_that_fails_is_a_fault(
    checkout: Checkout, arguments: tuple[str, ...], ends: int
) -> None:
    checkout.answer("pipelines/container_build.sh", f"exit {ends}")
    assert checkout.check(*arguments).returncode != 0


def test_another_age_in_the_image_is_a_fault(checkout: Checkout) -> None:
    predicts(checkout, "40.500000000000007")
    done = checkout.check()
    assert done.returncode == 1
    assert "the image and the pip install must agree" in done.stderr


def test_the_time_for_building_is_a_number(checkout: Checkout) -> None:
    done = checkout.check("--if-possible", "5m")
    assert done.returncode == 1
    assert "must be followed by seconds; found 5m" in done.stderr
