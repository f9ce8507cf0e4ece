"""The state of a stage of training on disk, from which it goes on as if it had never stopped.

One safetensors file with JSON in its header: nothing in it runs code when it is read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_whole

# Of the file's layout; another version's snapshot is not gone on with.
FORMAT = "ermoe_ba.snapshot.1"


class Stateful(Protocol):
    """What can say where it stands and take up from there."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, nested in dicts, lists and tuples."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take up what `state_dict` returned.

        Parameters
        ----------
        state : dict
            Of the same kind of object.
        """


def write_snapshot(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a snapshot, whole or not at all: what stood there before stays until this one is.

    Parameters
    ----------
    path : Path
        Where.
    identity : mapping
        Plain values that tell which stage it belongs to.
    state : mapping
        Tensors and plain values, nested in dicts, lists and tuples.

    Raises
    ------
    OSError
        If it cannot be written, for want of space for one.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_without_tensors(dict(state), "state", tensors))
    header = {"format": FORMAT, "identity": json.dumps(dict(identity)), "state": plain}
    content = save(tensors, header)

    def write(partial: Path) -> None:
        # Not safetensors' own writer: a full disk must show as an error of this call.
        partial.write_bytes(content)

    write_whole(path, write)


def read_snapshot(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `write_snapshot` wrote.

    Parameters
    ----------
    path : Path
        Where.
    identity : mapping
        As the stage to be gone on with would write it.

    Returns
    -------
    dict
        The state.

    Raises
    ------
    UsageError
        If the file cannot be read, or belongs to another stage.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: the snapshot cannot be read ({error}). Remove it.") from error
    found = {"format": header.get("format"), **json.loads(header.get("identity", "{}"))}
    wanted = json.loads(json.dumps({"format": FORMAT, **identity}))
    different = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if different:
        listed = "; ".join(f"{n}: {found.get(n)!r}, now {wanted.get(n)!r}" for n in different)
        raise UsageError(
            f"{path}: a snapshot must be gone on with as it was begun; found {listed}. Go on as "
            "before, or remove the file to start this stage anew."
        )
    state: dict[str, Any] = _with_tensors(json.loads(header["state"]), tensors)
    return state


def _without_tensors(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON can hold it; its tensors are put aside under their places.

    Whatever is nested becomes an object with one key that says what it was: keys of dicts may be
    numbers, and tuples shall come back as tuples.
    """
    if isinstance(value, Tensor):
        # Copied: tensors may share memory, which safetensors refuses.
        tensors[place] = value.detach().cpu().clone().contiguous()
        return {"tensor": place}
    if isinstance(value, dict):
        items = [[key, _without_tensors(v, f"{place}/{key}", tensors)] for key, v in value.items()]
        return {"dict": items}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_without_tensors(v, f"{place}/{n}", tensors) for n, v in enumerate(value)]}
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_without_tensors`."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _with_tensors(v, tensors) for key, v in content}
    items = [_with_tensors(v, tensors) for v in content]
    return items if kind == "list" else tuple(items)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the generators that networks on a device draw from.

    Parameters
    ----------
    device : device
        The network's; a GPU has a generator of its own beside the processor's.

    Returns
    -------
    dict of Tensor of uint8
        ``cpu`` and, where the device is one, ``cuda``.
    """
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the generators to the states that `random_state` returned.

    Parameters
    ----------
    state : mapping
        From `random_state` with a device of the same type.
    device : device
        The network's.
    """
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
