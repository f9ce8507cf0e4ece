"""What every public name of the package tells its reader, checked by numpydoc on live objects.

Not by ``numpydoc lint``: it reads the source alone, where a data class has no parameters and a
property is a method that returns something.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import Validator, validate

import ermoe_ba

# Left out: what asks for sections on every name (extended summary, "See Also", "Examples"), for
# capitals where a description goes on from a lower-case type or shape, for words behind a return
# type that says all, and where the blank lines are that ruff sees to.
CHECKS = {
    "GL06": "sections have known names",
    "GL07": "sections come in numpydoc's order",
    "GL08": "there is a docstring",
    "PR01": "every parameter is told of",
    "PR02": "and no other",
    "PR03": "in the order of the call",
    "PR04": "with its type",
    "PR05": "which ends in no full stop",
    "PR06": "and is called as Python calls it",
    "PR07": "and what it is",
    "PR10": "parted by ' : '",
    "RT01": "what comes back is told of",
    "YD01": "what is yielded is told of",
}


class Docstring(Validator):
    """numpydoc's reading of one docstring; a class need not tell again what its parents told."""

    @property
    def signature_parameters(self) -> tuple[str, ...]:
        names: tuple[str, ...] = super().signature_parameters
        if not inspect.isclass(self.obj):
            return names
        # Nobody calls a protocol.
        if getattr(self.obj, "_is_protocol", False):
            return ()
        inherited = {
            name
            for parent in self.obj.__mro__[1:]
            for name in Validator(_read(parent)).signature_parameters
        }
        told = self.doc_all_parameters
        return tuple(name for name in names if name in told or name not in inherited)


def _read(thing: Any) -> Any:
    # A class's methods are read by themselves.
    alone = {"show_class_members": False, "show_inherited_class_members": False}
    return get_doc_object(thing, config=alone)


def _faults(name: str, thing: Any) -> list[str]:
    found = validate(name, lambda obj_name: Docstring(_read(thing)))
    return [f"{name}: {code} {said}" for code, said in found["errors"] if code in CHECKS]


def _public(package: Any) -> Iterator[tuple[str, Any]]:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2].startswith("_"):
            continue
        for name, thing in vars(importlib.import_module(module.name)).items():
            own = getattr(thing, "__module__", None) == module.name and not name.startswith("_")
            if own and inspect.isclass(thing):
                yield f"{module.name}.{name}", thing
                yield from _members(f"{module.name}.{name}", thing)
            # What `cache` makes of a function is none itself.
            elif own and inspect.isfunction(inspect.unwrap(thing)):
                yield f"{module.name}.{name}", inspect.unwrap(thing)


def _members(of: str, thing: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(thing).items():
        # Class and static methods hold a function.
        plain = getattr(member, "__func__", member)
        known = inspect.isfunction(plain) or isinstance(plain, property | cached_property)
        if known and not name.startswith("_"):
            yield f"{of}.{name}", plain


def test_public_names_say_what_they_take_and_return() -> None:
    things = dict(_public(ermoe_ba))
    # The walk arrives: what users call first is among what is read, private names are not.
    assert "ermoe_ba.brain_age.BrainAgeModel.predict" in things
    assert "ermoe_ba.brain_age.BrainAgeModel.load" in things
    assert "ermoe_ba.space.Volume" in things
    # Cached.
    assert "ermoe_ba.assets.template" in things
    assert not any("._" in name for name in things)
    faults = [fault for name, thing in things.items() for fault in _faults(name, thing)]
    assert not faults, "\n".join(faults)


class _Parent:
    """A parent.

    Parameters
    ----------
    size : int
        Of it.
    """

    def __init__(self, size: int) -> None:
        self.size = size


class _Child(_Parent):
    """Tells what it adds.

    Parameters
    ----------
    name : str
        Its own.
    """

    def __init__(self, size: int, name: str) -> None:
        super().__init__(size)
        self.name = name


def _told(size: int) -> int:
    """Return a size.

    Parameters
    ----------
    size : int
        A size.

    Returns
    -------
    int
        The size.
    """
    return size


def _untold(size: int, more: int) -> int:
    """Return a size.

    Parameters
    ----------
    size
        A size.
    less : int
    """
    return size + more


def _nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("thing", "codes"),
    [
        (_told, set()),
        (_untold, {"PR01", "PR02", "PR04", "PR07", "RT01"}),
        (_nothing, {"GL08"}),
        (_Parent, set()),
        (_Child, set()),
    ],
)
def test_faults_are_found_and_parents_tell_for_their_children(thing: Any, codes: set[str]) -> None:
    found = {fault.split()[1] for fault in _faults("name", thing)}
    assert found == codes
