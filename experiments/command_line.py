"""What the experiments' command lines share: options that were given, options that a mode does not heed, errors on one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

A = TypeVar("A")
FAULTS = (ValueError, OSError, FloatingPointError)
"""Errors that say all there is to say."""


def given(arguments: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of some options that the command line gives."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def refuse(arguments: Any, mode: str, names: tuple[str, ...]) -> None:
    """ValueError where an option is given that a mode does not heed."""
    wrong = [f"--{name.replace('_', '-')}" for name in given(arguments, names)]
    if wrong:
        raise ValueError(f"{mode} takes the run's own config, got {' '.join(wrong)}; leave it out, or start a new run")


def run_command(
    main: Callable[[A], None],
    arguments: type[A],
    faults: tuple[type[Exception], ...] = FAULTS,
    interrupted: str = "",
) -> None:
    """Run a script with its command line; faults are one line and exit status 2.

    Args:
        main: what the script does.
        arguments: its options.
        faults: errors that need no traceback.
        interrupted: what to say after Ctrl-C; without it, Ctrl-C is Python's own.
    """
    try:
        main(tyro.cli(arguments))
    except KeyboardInterrupt:
        if not interrupted:
            raise
        print(f"error: {interrupted}", file=sys.stderr)
        sys.exit(2)
    except faults as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
