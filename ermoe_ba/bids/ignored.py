"""What a data set says is none of it: the lines of its ``.bidsignore``."""

from pathlib import Path

from pathspec import GitIgnoreSpec

from ermoe_ba.errors import UsageError


def read_ignored(root: Path) -> GitIgnoreSpec:
    """Read which files a data set ignores, by the rules of a ``.gitignore`` in its root.

    But for one: a later line takes files back out of a folder that is ignored, as git does not.

    Parameters
    ----------
    root : Path
        Of the data set.

    Returns
    -------
    GitIgnoreSpec
        Its `match_file` tells of a file's path in the data set; of none where there is no such
        file.

    Raises
    ------
    UsageError
        If the file is there and cannot be read, or a line of it means nothing.
    """
    path = root / ".bidsignore"
    try:
        return GitIgnoreSpec.from_lines(path.read_text(encoding="utf-8-sig").splitlines())
    except FileNotFoundError:
        return GitIgnoreSpec.from_lines([])
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: must be text in UTF-8 that can be read, a pattern a line; found: {error}. "
            "Mend it: it says which files are none of the data set's."
        ) from error
