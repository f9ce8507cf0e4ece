"""What runs here: the versions that a result can be traced by."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from ermoe_ba import __version__

# Libraries whose version can change an age.
TRACED = ("torch", "monai", "antspyx", "deepbet", "nibabel", "numpy", "scipy")


def software() -> dict[str, str]:
    """Return the versions of the package, of Python, of the traced libraries, and the platform.

    Returns
    -------
    dict of str to str
        By name; ``platform`` is system and processor.
    """
    return {
        "ermoe_ba": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in TRACED},
    }


def commit() -> str:
    """Return the commit of the checkout that runs, ``-dirty`` where files differ from it.

    ``n/a`` where the package does not lie in a checkout of its own.

    Returns
    -------
    str
        10 hexadecimal digits, or more where 10 would not tell commits apart.
    """
    package = Path(__file__).parent
    command = ("git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    if not (package.parent / "pyproject.toml").is_file():
        return "n/a"
    try:
        found = subprocess.run(
            command, cwd=package, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "n/a"
    return found.stdout.strip()
