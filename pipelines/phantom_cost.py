"""State what a subject of the phantom costs, beside a Fourier transform timed in the same run.

Command: OMP_NUM_THREADS=1 python pipelines/phantom_cost.py [SUBJECTS]
Time:    half a minute for the default of 24 subjects. Result: printed; the subjects, which are made
         in a temporary folder as `ermoe-ba phantom` makes them, are deleted.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import scipy.fft

from ermoe_ba.assets import atlas_root
from ermoe_ba.atlas import DEFAULT_ATLAS, registry
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.dataset import PhantomDataset, make_subject
from ermoe_ba.space import MODEL_GRID

SUBJECTS = 24
# Enough for a median that one disturbance does not move.
TRANSFORMS = 9


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds that a call takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> None:
    """Make subjects and print their cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", type=int, nargs="?", default=SUBJECTS, metavar="SUBJECTS")
    options = parser.parse_args()
    number = options.subjects
    volume = np.random.default_rng(0).standard_normal(MODEL_GRID.shape).astype(np.float32)
    transform = np.median([cpu_seconds(lambda: scipy.fft.rfftn(volume)) for _ in range(TRANSFORMS)])
    with tempfile.TemporaryDirectory() as folder:
        atlas = atlas_root() / registry()[DEFAULT_ATLAS]["file"]
        source = PhantomDataset(Path(folder), PhantomConfig(seed=1), atlas).source
        # The first loads and prepares what all others share.
        first = cpu_seconds(lambda: make_subject(source, 1))
        costs = [cpu_seconds(partial(make_subject, source, n)) for n in range(2, 2 + number)]
    # Linux counts in kibibytes.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"first subject {first:.2f} s, then {np.mean(costs):.2f} s a subject (processor time)")
    print(f"one rfftn of the model grid {transform:.4f} s, ratio {np.mean(costs) / transform:.0f}")
    print(f"peak memory {memory:.2f} GB")


if __name__ == "__main__":
    main()
