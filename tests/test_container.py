"""The image's recipe: locks that follow the project's own pins, a context that holds its wheel."""

import os
import re
import subprocess
import tomllib
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
