"""What ran: the commit of a checkout, and that there is none elsewhere."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ermoe_ba.software import commit


@pytest.mark.skipif(shutil.which("git") is None, reason="commits are git's")
def test_a_checkout_names_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout of one commit, as git itself calls it, before and after a file is changed."""
    (tmp_path / "package").mkdir()
    monkeypatch.setattr("ermoe_ba.software.__file__", str(tmp_path / "package" / "software.py"))

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init")
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\n", encoding="utf-8")
    assert commit() == "n/a", "nothing is committed yet"
    git("add", "pyproject.toml")
    git("commit", "--message", "first")
    git("tag", "--annotate", "--message", "of the commit", "v1")
    known = git("rev-parse", "HEAD")[:10]
    assert commit() == known
    project.write_text("[build-system]\n", encoding="utf-8")
    assert commit() == f"{known}-dirty"
    # Without a project beside it, the package is installed in somebody else's checkout.
    project.unlink()
    assert commit() == "n/a"
