"""Settings from files: plain values in, frozen dataclasses out, checked on the way."""

from dataclasses import is_dataclass
from typing import Any, TypeVar

import dacite

Settings = TypeVar("Settings")

# Lists for tuples are all that TOML and JSON can say; a whole number is a real one as well.
_RULES = dacite.Config(
    strict=True, cast=[tuple], type_hooks={float: lambda n: float(n) if type(n) is int else n}
)


def from_plain(kind: type[Settings], content: dict[str, Any]) -> Settings:
    """Make settings from what TOML or JSON gives.

    Parameters
    ----------
    kind : type
        A dataclass, which may hold others.
    content : dict
        Its fields.

    Returns
    -------
    Settings
        Checked: by type here, by range where the dataclass checks it.

    Raises
    ------
    ValueError
        If a field is unknown, missing, of another type or out of range; the message names it.
    """
    if not is_dataclass(kind):
        raise TypeError(f"{kind} is no dataclass.")
    try:
        return dacite.from_dict(kind, content, _RULES)
    except dacite.DaciteError as error:
        raise ValueError(str(error)) from error
