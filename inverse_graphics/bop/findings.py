"""What is wrong with BOP files: found by the parsers, listed by the checker, raised by the readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]
"""``error``: the file breaks the format, readers refuse it; ``warning``: it is readable, but probably not what is meant."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: Severity
    """How bad it is."""
    rule: str
    """Short name of what was looked at, for example ``rotation``; findings of one rule are listed together."""
    file: str
    """The file or folder."""
    where: str
    """Line, or key such as ``"3"[0].cam_R_m2c``; empty for the whole file."""
    problem: str
    """What was expected and what was received, with the unit that is suspected where one is."""
    remedy: str
    """What to do about it."""

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else self.file
        return f"{place}: {self.problem}; {self.remedy}"


class BopError(ValueError):
    """A BOP file that cannot be used: which, where in it, what is wrong, and the remedy."""


class Findings:
    """Collects findings about files."""

    def __init__(self) -> None:
        """Start with none."""
        self.list: list[Finding] = []

    def error(self, rule: str, file: Path, where: str, problem: str, remedy: str) -> None:
        """Add what breaks the format."""
        self.list.append(Finding("error", rule, str(file), where, problem, remedy))

    def warning(self, rule: str, file: Path, where: str, problem: str, remedy: str) -> None:
        """Add what is probably not meant."""
        self.list.append(Finding("warning", rule, str(file), where, problem, remedy))

    def add(self, error: BopError, rule: str, file: Path) -> None:
        """Add what a reader raised about a file."""
        problem, _, remedy = str(error).removeprefix(f"{file}: ").partition("; ")
        self.error(rule, file, "", problem, remedy)

    @property
    def errors(self) -> list[Finding]:
        """The errors among them."""
        return [finding for finding in self.list if finding.severity == "error"]

    def refuse(self) -> None:
        """Raise BopError for the first error, if there is one."""
        errors = self.errors
        if errors:
            more = f" ({len(errors) - 1} more errors: python -m inverse_graphics.bop check)" if len(errors) > 1 else ""
            raise BopError(f"{errors[0]}{more}")


def exit_code(findings: Iterable[Finding]) -> int:
    """0 without findings, 1 with warnings only, 2 with errors."""
    severities = {finding.severity for finding in findings}
    return 2 if "error" in severities else 1 if severities else 0


def listing(findings: Sequence[Finding], most: int = 10) -> str:
    """The findings as text: errors first, at most so many a rule, then how many there are.

    Args:
        findings: in the order they were found.
        most: how many of one rule are written out.
    """
    lines: list[str] = []
    for severity in ("error", "warning"):
        chosen = [finding for finding in findings if finding.severity == severity]
        for rule in dict.fromkeys(finding.rule for finding in chosen):
            same = [finding for finding in chosen if finding.rule == rule]
            lines += [f"{severity} [{rule}] {finding}" for finding in same[:most]]
            if len(same) > most:
                lines.append(f"{severity} [{rule}] ... and {len(same) - most} more")
    errors = sum(finding.severity == "error" for finding in findings)
    lines.append(f"{errors} errors, {len(findings) - errors} warnings")
    return "\n".join(lines)
