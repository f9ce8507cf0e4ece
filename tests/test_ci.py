"""What must pass before a change is accepted: in time, and red where something is wrong."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "run"
LIMIT_SECONDS = 25 * 60
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def seconds(name: str) -> int:
    """Return a number of seconds that the script's head sets, of the form A * 60 [- B]."""
    found = re.search(
        rf"^{name}=\$\(\((\d+) \* 60(?: - (\d+))?\)\)$", SCRIPT.read_text(encoding="utf-8"), re.M
    )
    assert found
    return int(found[1]) * 60 - int(found[2] or 0)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script in a checkout whose two steps tell of their call and end as they are told."""
    script = tmp_path / ".ci" / "run"
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    steps = tmp_path / "pipelines"
    steps.mkdir()

    def ci(gone: int = 0, *, tests: int = 0, image: int = 0) -> object:
        for name, ends in (("test", tests), ("container_check", image)):
            text = f'printf "%s " {name} "$@"\nexit {ends}\n'
            (steps / f"{name}.sh").write_text(text, encoding="utf-8")
        # Bash goes on counting from the SECONDS that it is given.
        return subprocess.run(
            ["bash", script],
            env={**os.environ, "SECONDS": str(gone)},
            capture_output=True,
            text=True,
            check=False,
        )

    return ci


def test_tests_and_image_are_both_asked(run: Run) -> None:
    done = run()
    assert done.returncode == 0
    assert re.fullmatch(r"test container_check --if-possible \d+ ", done.stdout)


def test_no_image_is_built_after_failed_tests(run: Run) -> None:
    done = run(tests=3)
    assert (done.returncode, done.stdout) == (3, "test ")


# 124 and 137 are what `timeout` ends with: here nothing is passed over for them.
@pytest.mark.parametrize("ends", [1, 2, 124, 137])
def test_an_image_at_fault_is_red(run: Run, ends: int) -> None:
    assert run(image=ends).returncode == ends


def test_an_image_that_would_be_cut_off_is_not_begun(run: Run) -> None:
    # A minute more than the last moment at which it is: however slowly this test runs.
    done = run(seconds("LIMIT") - seconds("CHECKS") - seconds("IMAGE") + 60, image=1)
    assert done.returncode == 0
    said = done.stdout.removeprefix("test ")
    assert re.fullmatch(r"== no image is built here: \d+ s have gone, .*\n", said)


def test_the_image_is_given_what_is_left(run: Run) -> None:
    gone = seconds("LIMIT") - seconds("CHECKS") - seconds("IMAGE") - 120
    given = int(run(gone).stdout.split("--if-possible ")[1])
    # Up to two minutes for the script's own start.
    assert seconds("IMAGE") <= given <= seconds("LIMIT") - seconds("CHECKS") - gone
    assert gone + given + seconds("CHECKS") < LIMIT_SECONDS
