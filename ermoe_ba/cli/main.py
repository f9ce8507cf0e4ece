"""``ermoe-ba``: arguments in, exit code out; nothing heavy is imported before it is needed."""

import argparse
import gc
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ermoe_ba.cli.parser import COMMANDS, LEVELS, build_app_parser, build_parser
from ermoe_ba.errors import ErmoeError, printable

EXIT_USAGE = 2
# What shells give of a process that an interrupt (signal 2) ended: 128 + 2.
EXIT_INTERRUPTED = 130


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Tell the two doors apart: a BIDS App has its level in the third place."""
    if len(arguments) > 2 and arguments[2] in LEVELS and arguments[0] not in COMMANDS:
        options = build_app_parser().parse_args(arguments)
        options.inputs = [options.bids_dir]
        return options
    return build_parser().parse_args(arguments)


def _told(error: ErmoeError | OSError) -> str:
    """Return what the user is told of an error, in one line."""
    if isinstance(error, ErmoeError):
        return str(error)
    where = f" ({printable(str(error.filename))})" if error.filename else ""
    return (
        "inputs must be readable, and results writable; found: "
        f"{error.strerror or error}{where}. Mend that, and give the same command again (predict "
        "and ablate: with --resume): what was finished stands."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of the process by default.

    Returns
    -------
    int
        0 all done, 1 at least one scan failed or was refused (the others are written), 2 usage, 130
        interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files, and cards of models, hold signs that not every terminal's encoding has.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    try:
        trains = options.command in ("ablate", "cross-validate", "fine-tune", "train")
        if trains or options.command in ("predict", "preprocess", "bids-app"):
            # Read by torch when it loads: large arrays in large pages saved a seventh of the time.
            os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
            # Libraries make millions of objects that stay: looking through them for garbage took a
            # quarter of their loading time. Each switches it on again when all are loaded.
            gc.disable()
        # A command's module, such as cli/fine_tune.py, holds its function: run_fine_tune.
        name = options.command.replace("-", "_")
        module = import_module(f"ermoe_ba.cli.{name}")
        if trains:
            # Loaded with their module; the other three load on while they work.
            gc.freeze()
            gc.enable()
        code: int = getattr(module, f"run_{name}")(options)
        return code
    except (ErmoeError, OSError) as error:
        if options.debug:
            raise
        print(f"ermoe-ba: {_told(error)}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        if options.debug:
            raise
        print(
            "ermoe-ba: interrupted. What was finished stands; the same command goes on with it "
            "(predict and ablate: with --resume).",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
