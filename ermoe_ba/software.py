"""What runs here: the versions that a result can be traced by."""

import platform
from importlib.metadata import version

from ermoe_ba import __version__

# Libraries whose version can change an age.
TRACED = ("torch", "monai", "antspyx", "deepbet", "nibabel", "numpy", "scipy")


def software() -> dict[str, str]:
    """Return the versions of the package, of Python, of the traced libraries, and the platform."""
    return {
        "ermoe_ba": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in TRACED},
    }
