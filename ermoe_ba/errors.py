"""What the package raises when the user's data or call is at fault."""

from pathlib import Path


def printable(text: str) -> str:
    """Return a text that fits one line of any file: file names may hold anything but a slash.

    Line breaks, tabs and other control characters, and bytes that are no UTF-8, are escaped.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        Of printable characters alone, in one line.
    """
    kept = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in kept)


class ErmoeError(Exception):
    """Base of all errors meant for the user; its text is one line and needs no traceback."""


class UsageError(ErmoeError):
    """The call itself is wrong (exit code 2): nothing has been computed."""


class ScanError(ErmoeError):
    """One scan cannot be used; the rest of the batch goes on.

    Parameters
    ----------
    where : Path or str
        The file at fault.
    must_hold : str
        The condition a usable file meets.
    found : str
        What was found instead.
    remedy : str
        What the user can do about it.
    """

    def __init__(self, where: Path | str, *, must_hold: str, found: str, remedy: str) -> None:
        self.where, self.must_hold, self.found, self.remedy = where, must_hold, found, remedy
        super().__init__(f"{printable(str(where))}: {self.why}")

    @property
    def why(self) -> str:
        """What must hold, what was found and what to do, without the file."""
        return f"{self.must_hold}; found {self.found}. {self.remedy}"


class RefusedScanError(ScanError):
    """A readable scan whose content forbids an age: no brain, another contrast, a brain cut off."""
