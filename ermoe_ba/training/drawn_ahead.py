"""What the next step needs of a generator, drawn while the network works on the step before."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np

Draws = TypeVar("Draws")


class DrawnAhead(Generic[Draws]):
    """The draws of a stage, one step after the other, each made while the one before is used.

    The draws are those that would have been made without it: one thread makes them, one step after
    the other. The state it tells is that after the step taken last, whatever is drawn already, so
    that a stage gone on with from there draws the same again.

    Parameters
    ----------
    draw : callable
        Makes the draws of the next step from `random`, and from nothing else that changes.
    random : Generator
        Nobody else draws from it once steps are taken.
    num_steps : int
        Steps of the stage; nothing is drawn beyond them.
    """

    def __init__(
        self, draw: Callable[[], Draws], random: np.random.Generator, num_steps: int
    ) -> None:
        self._draw, self._random, self._num_steps = draw, random, num_steps
        self._state: dict[str, Any] = dict(random.bit_generator.state)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="draws")
        self._coming: Future[tuple[Draws, dict[str, Any]]] | None = None

    def take(self, step: int) -> Draws:
        """Return the draws of a step, and begin with those of the next.

        Parameters
        ----------
        step : int
            From 0; they must be taken in order, from the one that the state belongs to.

        Returns
        -------
        Draws
            What `draw` returned.

        Raises
        ------
        IndexError
            If there is no such step.
        """
        if not 0 <= step < self._num_steps:
            raise IndexError(f"Steps go from 0 to {self._num_steps - 1}; found {step}.")
        coming = self._coming or self._thread.submit(self._make)
        draws, self._state = coming.result()
        more = step + 1 < self._num_steps
        self._coming = self._thread.submit(self._make) if more else None
        return draws

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state as it was after the step taken last.

        Returns
        -------
        dict
            For `load_state_dict`.
        """
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; what was drawn ahead is dropped.

        Parameters
        ----------
        state : dict
            Of a generator of the same kind.
        """
        if self._coming is not None:
            self._coming.result()
            self._coming = None
        self._random.bit_generator.state = self._state = state

    def _make(self) -> tuple[Draws, dict[str, Any]]:
        return self._draw(), dict(self._random.bit_generator.state)
