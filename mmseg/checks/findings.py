"""Results of checks, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.text import Text

from mmseg.system.printing import TextTable
from mmseg.system.text import printable

OK, NOTE, WRONG = "ok", "note", "wrong"
# A remedy that several checks name.
MAKE_LISTS = "run create_dsec_dataset_txt.py on the DSEC_Night folder"
STYLES = {OK: "green", NOTE: "yellow", WRONG: "bold red"}
# Cases kept by a finding, and cases printed below the table.
KEPT_CASES, SHOWN_CASES = 100, 3
# Width of the table if it is not printed to a terminal.
FILE_WIDTH = 160


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        check: what was checked.
        found, expected: in words or numbers.
        state: ``ok``; ``note`` (worth knowing, training works); or ``wrong``.
        remedy: what to do; empty if the state is ``ok``.
        cases: the files or lines concerned, at most ``KEPT_CASES``.
    """

    check: str
    found: str
    expected: str
    state: str = OK
    remedy: str = ""
    cases: tuple[str, ...] = ()


def judged(
    check: str,
    found: str,
    expected: str,
    good: bool,
    remedy: str,
    cases: Iterable[object] = (),
    otherwise: str = WRONG,
) -> Finding:
    """A finding that is ok if ``good``, else ``otherwise``, with remedy and cases."""
    if good:
        return Finding(check, found, expected)
    kept = tuple(str(case) for _, case in zip(range(KEPT_CASES), cases, strict=False))
    return Finding(check, found, expected, otherwise, remedy, kept)


def all_of(
    check: str, total: int, bad: Sequence[object], expected: str, remedy: str, otherwise: str = WRONG
) -> Finding:
    """A finding about ``total`` items that should all be as expected; ``bad`` are those that are not."""
    found = f"{total - len(bad):,} of {total:,}"
    return judged(check, found, f"all {expected}".strip(), not bad, remedy, bad, otherwise)


def published_count(check: str, number: int, published: int | None, subset: bool, remedy: str) -> Finding:
    """Compare a number of files with the published one, if known; a ``subset`` may have any number above 0."""
    if subset or published is None:
        known = "" if published is None else f" (published: {published:,})"
        return judged(check, f"{number:,}", f"above 0{known}", number > 0, remedy)
    remedy = f"{remedy}; or give --subset if it is a part of the data"
    return judged(check, f"{number:,}", f"{published:,}", number == published, remedy)


def unneeded_count(check: str, number: int, published: int, subset: bool, remedy: str) -> Finding:
    """A finding about the number of files of a split that training does not read."""
    good = subset or number == published
    return judged(
        check, f"{number:,}", f"{published:,}, not for this training", good, f"to have it, {remedy}", (), NOTE
    )


def is_good(findings: Iterable[Finding]) -> bool:
    """Whether nothing is wrong."""
    return all(finding.state != WRONG for finding in findings)


def print_findings(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print the table, and below it the first cases of findings that are not ok."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=FILE_WIDTH)
    table = TextTable(expand=True)
    for title, ratio in (("check", 8), ("found", 7), ("expected", 7), ("state", None), ("remedy", 8)):
        table.add_column(title, ratio=ratio, overflow="fold")
    for finding in findings:
        cells = [getattr(finding, key) for key in ("check", "found", "expected")]
        table.add_row(*cells, Text(finding.state, STYLES[finding.state]), finding.remedy)
    console.print(table)
    for finding in findings:
        if finding.cases:
            print(f"{finding.check}:", file=console.file)
            for case in finding.cases[:SHOWN_CASES]:
                print(f"  {printable(case, keep='')}", file=console.file)
            if len(finding.cases) > SHOWN_CASES:
                more = len(finding.cases) - SHOWN_CASES
                print(
                    f"  and {more:,} more{' at least' if len(finding.cases) == KEPT_CASES else ''}", file=console.file
                )
    counts = {state: sum(f.state == state for f in findings) for state in STYLES}
    print(f"{counts[OK]} ok, {counts[NOTE]} to note, {counts[WRONG]} wrong", file=console.file)


def findings_json(findings: Sequence[Finding], about: dict[str, object]) -> str:
    """Findings as JSON text.

    Args:
        findings: all of them.
        about: description of what was checked; comes first.
    """
    checks: list[dict] = [asdict(finding) for finding in findings]
    return json.dumps({**about, "good": is_good(findings), "checks": checks}, indent=2) + "\n"


def one_line(error: Exception) -> str:
    """Message of an error in one line."""
    return " ".join(str(error).split())
