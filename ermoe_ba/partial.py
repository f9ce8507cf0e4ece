"""Half-written files: how they are called, and which of them nobody will ever finish."""

import glob
import os
import re
import socket
from pathlib import Path


def prefix_of(path: Path) -> str:
    """Return how the name of a file begins while this process writes it.

    ``.partial-<name>-<host>-<process>-``; what follows must hold no hyphen.

    Parameters
    ----------
    path : Path
        The whole file.

    Returns
    -------
    str
        Of the file name alone, without folder.
    """
    return f"{_beginning(path)}{_host()}-{os.getpid()}-"


def sweep(path: Path) -> None:
    """Remove what dead processes of this machine left of a file; others may be at work on it now.

    Parameters
    ----------
    path : Path
        The whole file; it need not exist, nor its folder.

    Raises
    ------
    OSError
        If what they left cannot be removed.
    """
    beginning = _beginning(path)
    if path.parent.is_dir():
        for partial in path.parent.glob(f"{glob.escape(beginning)}*"):
            writer = partial.name[len(beginning) :].split("-")
            if len(writer) == 3 and writer[0] == _host() and _is_dead(writer[1]):
                partial.unlink(missing_ok=True)


def _beginning(path: Path) -> str:
    # Cut: a name may use up all the length that a file system allows.
    return f".partial-{path.name[:150]}-"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:40]


def _is_dead(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        # It lives and is somebody else's, or the name is not one of ours.
        return False
    return False
