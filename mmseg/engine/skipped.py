"""Samples that a training skipped, in all of its processes."""

from __future__ import annotations

from collections import Counter

from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.parallel.distributed import gather


class SkippedSamples:
    """Counts the reasons why samples were skipped, and logs each the first time.

    Args:
        log: log of the run; only that of the first process writes.
        allowed: whether samples may be skipped at all.
    """

    def __init__(self, log: RunLog | SilentLog, allowed: bool) -> None:
        self._log, self._allowed = log, allowed
        self._counts: Counter[str] = Counter()
        # not yet shared with the other processes
        self._new: Counter[str] = Counter()

    def note(self, reason: str) -> None:
        """Count a sample that this process skipped."""
        self._new[reason] += 1
        self._add(reason, 1)

    def _add(self, reason: str, count: int) -> None:
        if reason not in self._counts:
            self._log.warning(f"left out a sample: {reason}")
        self._counts[reason] += count

    def share(self) -> None:
        """Send the counts to the first process, which logs them; all processes call this at the same iterations."""
        if not self._allowed:
            return
        own, self._new = self._new, Counter()
        for rank, counts in enumerate(gather(own)):
            if rank > 0:
                for reason, count in counts.items():
                    self._add(reason, count)

    def report(self) -> None:
        """Log how often each reason occurred."""
        if self._counts:
            self._log.warning(f"{self._counts.total()} samples were left out, for {len(self._counts)} reasons:")
            for reason, count in self._counts.most_common():
                self._log.warning(f"  {count} times: {reason}")
