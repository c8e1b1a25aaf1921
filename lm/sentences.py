"""Where sentences begin: a rule that needs no model, for features and for evidence, never for offsets of mentions."""

import re
from bisect import bisect_right

# An end of a sentence, or a blank line, before something that can begin one. Not after initials, "e.g.", "Fig." and
# the like, and not within "1.5".
_BORDER = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])|\n\s*\n")
_NO_END = re.compile(
    r"(?:\b(?:[A-Z]|e\.g|i\.e|cf|vs|et al|approx|Dr|Drs|Prof|Mr|Mrs|Ms|St|Fig|Figs|No|Nos|ref|refs)\.)$"
)


def sentence_starts(text: str) -> list[int]:
    """The characters at which sentences begin, the first at 0."""
    starts = [0]
    for border in _BORDER.finditer(text):
        if not _NO_END.search(text[max(starts[-1], border.start() - 12) : border.start()]):
            starts.append(border.end())
    return [start for start in starts if start < len(text)] or [0]


def sentence_of(starts: list[int], character: int) -> int:
    """The number of the sentence that a character stands in."""
    return bisect_right(starts, character) - 1
