"""A part of the evidence in its file, with what it was made of: figures outlive settings."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ermoe_ba.io import remove_file, write_json

# Of what the parts hold: raised where the same settings come to give other figures, or figures of
# other names. 1: what was kept before parts said what they were made of. 2: before maps of a trial
# were measured network by network as well.
REVISION = 3
MADE_OF = "made_of"


@dataclass(frozen=True)
class KeptPart:
    """Where a part is kept, and what it must be made of to be taken as it stands.

    Parameters
    ----------
    path : Path
        A JSON file; need not exist.
    made_of : dict
        Name of whatever decides about the figures to its digest, from `digests`.
    """

    path: Path
    made_of: dict[str, str]

    def read(self) -> dict[str, Any] | None:
        """Return the part as it stands.

        Returns
        -------
        dict or None
            None where there is none, or another making.
        """
        return None if not self.path.is_file() or self.differs() else self._content()

    def differs(self) -> list[str]:
        """Return in what the making of the part that stands was another.

        Returns
        -------
        list of str
            Names, sorted; none where no part stands.
        """
        if not self.path.is_file():
            return []
        before = self._content().get(MADE_OF, {})
        names = {*before, *self.made_of}
        return sorted(name for name in names if before.get(name) != self.made_of.get(name))

    def read_or_make(self, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return the part as it stands, or make it and keep it.

        Parameters
        ----------
        make : callable
            Returns the figures, values that JSON can hold.

        Returns
        -------
        dict
            The part, with what it was made of.
        """
        if (stands := self.read()) is not None:
            return stands
        # First: maps that are kept beside it would be no longer its own, were this interrupted.
        remove_file(self.path)
        write_json(self.path, {MADE_OF: self.made_of, **make()})
        return self._content()

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
        return content


def digests(**what: Any) -> dict[str, str]:
    """Return what decides about a part, each by a short digest, and the revision of the parts.

    Parameters
    ----------
    **what : Any
        By name; values that JSON can hold.

    Returns
    -------
    dict
        Name to 16 hexadecimal digits.
    """
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
        for name, value in {"revision": REVISION, **what}.items()
    }


def files_digest(paths: Iterable[Path]) -> str:
    """Return a digest of what files hold, whatever folder they lie in.

    Parameters
    ----------
    paths : iterable of Path
        Files, in any order; their names count.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    told = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        told.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return told.hexdigest()
