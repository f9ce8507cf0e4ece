"""Settings from files: plain values in, frozen dataclasses out, checked on the way."""

from dataclasses import asdict, is_dataclass
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
    TypeError
        If `kind` is no dataclass.
    """
    if not is_dataclass(kind):
        raise TypeError(f"{kind} is no dataclass.")
    try:
        return dacite.from_dict(kind, content, _RULES)
    except dacite.DaciteError as error:
        raise ValueError(str(error)) from error


def changed(settings: Settings, content: dict[str, Any]) -> Settings:
    """Return settings of which some are others.

    Parameters
    ----------
    settings : dataclass
        As they are.
    content : dict
        What is to be otherwise, as TOML or JSON gives it; of settings within settings, only what is
        named.

    Returns
    -------
    Settings
        Checked as by `from_plain`.

    Raises
    ------
    TypeError, ValueError
        As from `from_plain`.
    """
    if not is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"{settings} are no settings.")
    return from_plain(type(settings), _merged(asdict(settings), content))


def _merged(before: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in content.items():
        inside = before.get(name)
        if isinstance(inside, dict) and isinstance(value, dict):
            value = _merged(inside, value)
        merged[name] = value
    return merged
