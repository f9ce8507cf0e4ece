"""What a data set says is none of it: the lines of its ``.bidsignore``."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ermoe_ba.errors import UsageError

BIDSIGNORE = ".bidsignore"


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One line: parts of a path from the root of the data set on, of which ``**`` is any folders.

    `takes_back` where what earlier lines ignored is none the less meant.
    """

    parts: tuple[str, ...]
    folders_only: bool
    takes_back: bool


@dataclass(frozen=True)
class IgnoredFiles:
    """Tells which files a data set ignores, by the rules of a ``.gitignore`` in its root.

    Of those rules it knows comments, ``!``, a slash at the beginning, within or at the end, ``**``,
    and in names ``*``, ``?`` and ``[...]``; a backslash stands for itself. Upper and lower case
    differ.

    Parameters
    ----------
    lines : sequence
        From `IgnoredFiles.read`.
    """

    lines: Sequence[_Line] = ()

    @classmethod
    def read(cls, root: Path) -> "IgnoredFiles":
        """Read the file in the root of a data set.

        Parameters
        ----------
        root : Path
            Of the data set.

        Returns
        -------
        IgnoredFiles
            Ignores nothing where there is no such file.

        Raises
        ------
        UsageError
            If the file is there and cannot be read.
        """
        path = root / BIDSIGNORE
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path}: must be text in UTF-8 that can be read; found: {error}. Mend it: it says "
                "which files are none of the data set's."
            ) from error
        stated = (line.strip() for line in text.splitlines())
        return cls([_line(line) for line in stated if line.strip("!/") and line[0] != "#"])

    def __contains__(self, in_dataset: str) -> bool:
        """Tell whether a file is ignored, or a folder that it lies in.

        Parameters
        ----------
        in_dataset : str
            Path of the file in the data set, with slashes.

        Returns
        -------
        bool
            As the last line that means it says. What lies in an ignored folder no line takes back.
        """
        parts = PurePosixPath(in_dataset).parts
        return any(self._says(parts[:depth], len(parts)) for depth in range(1, len(parts) + 1))

    def _says(self, place: tuple[str, ...], length: int) -> bool:
        is_folder = len(place) < length
        for line in reversed(self.lines):
            if (is_folder or not line.folders_only) and _fits(line.parts, place):
                return not line.takes_back
        return False


def _line(text: str) -> _Line:
    """Return what a line means that is neither empty nor a comment."""
    pattern = text.removeprefix("!")
    named = pattern.rstrip("/")
    # A slash before the end ties it to the root; else it may mean a name in any folder.
    anywhere = () if "/" in named else ("**",)
    return _Line(
        parts=(*anywhere, *(part for part in named.split("/") if part)),
        folders_only=pattern.endswith("/"),
        takes_back=text.startswith("!"),
    )


def _fits(pattern: tuple[str, ...], place: tuple[str, ...]) -> bool:
    """Tell whether a path is what a pattern means, name by name."""
    if not pattern or not place:
        return not pattern and not place
    first, *_ = pattern
    if first != "**":
        return fnmatchcase(place[0], first) and _fits(pattern[1:], place[1:])
    # At the end it is all that is inside, and not the folder itself.
    return len(pattern) == 1 or any(_fits(pattern[1:], place[n:]) for n in range(len(place)))
