"""A stage of training on the screen and with its trackers, and what it costs."""

import sys
import time
from collections.abc import Mapping, Sequence

from accelerate.tracking import GeneralTracker
from tqdm import tqdm

from ermoe_ba.training.batch import Batch, Batches
from ermoe_ba.training.history import Cost, peak_memory_mb


class Progress:
    """A bar with epoch, measures and time left; it knows names and values, not what they mean.

    Parameters
    ----------
    describe : str
        Names the stage.
    num_steps, num_done : int
        Steps of the stage, and how many of them an earlier process made.
    num_epochs : int
        Epochs of the stage.
    trackers : sequence of GeneralTracker
        Not yet started.
    shown : bool
        Whether this process shows anything.
    """

    def __init__(
        self,
        describe: str,
        *,
        num_steps: int,
        num_done: int,
        num_epochs: int,
        trackers: Sequence[GeneralTracker],
        shown: bool,
    ) -> None:
        self.describe, self.num_epochs = describe, num_epochs
        self.trackers, self.shown = trackers, shown
        for tracker in trackers:
            tracker.start()
        self.bar = tqdm(
            total=num_steps, initial=num_done, desc=describe, disable=not shown, mininterval=2.0
        )
        self.scans, self.making = 0, 0.0
        self.begin = time.perf_counter()

    def load(self, batches: Batches, step: int) -> Batch:
        """Return the batch of a step, and count the time that it took and the scans in it.

        Parameters
        ----------
        batches : Batches
            Of the stage.
        step : int
            From 0.

        Returns
        -------
        Batch
            Of that step.
        """
        start = time.perf_counter()
        batch = batches[step]
        self.making += time.perf_counter() - start
        self.scans += len(batch.participants)
        return batch

    def step(self) -> None:
        """Move on by one step."""
        self.bar.update()

    def epoch(self, epoch: int, means: Mapping[str, float], num_steps: int) -> None:
        """Show an epoch's measures beside the bar, and tell them to the trackers.

        Parameters
        ----------
        epoch : int
            From 1.
        means : mapping
            By name.
        num_steps : int
            Steps made so far.
        """
        listed = ", ".join(f"{name} {mean:.3g}" for name, mean in means.items())
        self.bar.set_postfix_str(f"epoch {epoch}/{self.num_epochs}, {listed}")
        named = {f"{self.describe}/{name}": mean for name, mean in means.items()}
        for tracker in self.trackers:
            tracker.log(named, step=num_steps)

    def finish(self) -> Cost:
        """Close the bar and the trackers; print and return what the stage cost.

        Returns
        -------
        Cost
            Scans, seconds and memory of this process.
        """
        cost = Cost(
            scans=self.scans,
            seconds=time.perf_counter() - self.begin,
            making_seconds=self.making,
            peak_memory_mb=peak_memory_mb(),
        )
        self.bar.close()
        for tracker in self.trackers:
            tracker.finish()
        if self.shown:
            tqdm.write(f"{self.describe}: {cost}", file=sys.stderr)
        return cost
