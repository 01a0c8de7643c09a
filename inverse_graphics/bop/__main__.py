"""Check BOP data.

python -m inverse_graphics.bop check data/tabletop
python -m inverse_graphics.bop check results/mine_tabletop-test.csv --dataset data/tabletop
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from inverse_graphics.bop.check import check_dataset, check_results
from inverse_graphics.bop.findings import exit_code, listing


def check(path: tyro.conf.Positional[Path], dataset: Path | None = None, images: bool = True) -> int:
    """Say what is wrong with a data set or a results file.

    Exit code 0: nothing; 1: warnings only; 2: errors.

    Args:
        path: folder of a data set, or a results file.
        dataset: folder of the data set that a results file is of.
        images: whether a data set's pictures are read in full; else only its JSON files, models and names of files.
    """
    if path.suffix.lower() == ".csv":
        findings = check_results(path, dataset)
    else:
        findings = check_dataset(path, images)
    print(listing(findings))
    return exit_code(findings)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return tyro.extras.subcommand_cli_from_dict({"check": check}, args=arguments, prog="python -m inverse_graphics.bop")


if __name__ == "__main__":
    sys.exit(main())
