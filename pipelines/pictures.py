"""Pictures in a folder of results, for scripts that draw several; no recipe itself."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ermoe_ba.io import write_whole


def write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> list[Path]:
    """Write pictures under their names.

    Parameters
    ----------
    folder : Path
        Made if need be.
    pictures : mapping of str to bytes
        PNG by name, without ending.

    Returns
    -------
    list of Path
        Where they stand, in the order given.

    Raises
    ------
    OSError
        If one cannot be written.
    """
    paths = []
    for name, png in pictures.items():
        paths.append(folder / f"{name}.png")
        write_whole(paths[-1], partial(_write, content=png))
    return paths


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
