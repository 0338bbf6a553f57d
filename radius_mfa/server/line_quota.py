"""Bounds how many lines say the same: a flood or a storm of repeats must not fill the disk."""

from collections import Counter
from collections.abc import Hashable

INTERVAL_SECONDS = 10.0
"""A subject has a number of lines in this time; the next line says how many were held back."""


class LineQuota:
    """Lets *most* lines of each subject through in every interval."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ends: dict[Hashable, float] = {}
        self._lines: Counter[Hashable] = Counter()
        self._suppressed: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        """Return how many subjects are remembered."""
        return len(self._ends)

    def __contains__(self, subject: Hashable) -> bool:
        """Return whether *subject* is remembered."""
        return subject in self._ends

    def take(self, subject: Hashable, now: float) -> int | None:
        """Return how many lines were held back before this one; None to hold this back too.

        *now* is monotonic, in seconds.
        """
        if now >= self._ends.get(subject, now):
            self._ends[subject] = now + INTERVAL_SECONDS
            self._lines[subject] = 0
        self._lines[subject] += 1
        if self._lines[subject] > self._most:
            self._suppressed[subject] += 1
            return None
        return self._suppressed.pop(subject, 0)

    def forget_past(self, now: float) -> None:
        """Forget every subject whose interval is over."""
        for subject in [one for one, ends in self._ends.items() if ends <= now]:
            for known in (self._ends, self._lines, self._suppressed):
                known.pop(subject, None)
