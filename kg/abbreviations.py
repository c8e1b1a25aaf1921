"""Abbreviations that a text defines itself, as in "vestibular schwannoma (VS)", wherever it uses them.

Schwartz and Hearst, "A simple algorithm for identifying abbreviation definitions in biomedical text", 2003: the
letters of the short form occur in this order in the words before the bracket, and the first of them begins a word. The
limits on lengths are scispaCy's. Beyond both: a short form has a capital or a digit, what follows `;` or `,` in the
bracket is not part of it, and its plural is found too.
"""

import re

Stretch = tuple[int, int]
_TOKEN = re.compile(r"[^\s()\[\],;:.!?\"\u201c\u201d/]+|[()\[\],;:.!?\"\u201c\u201d/]")
_BRACKET = re.compile(r"\(([^()]{2,120})\)")
_SHORT = re.compile(r"[^\s;,:]+(?: [^\s;,:]+)?(?=\s*(?:[;,:]|$))")
_MAX_LETTERS = 10
_MAX_LONG = 200  # characters before the bracket in which the long form may begin


def abbreviations(text: str) -> dict[Stretch, Stretch]:
    """Where the text uses an abbreviation that it defines, with where the first definition spells it out; ascending."""
    found: dict[Stretch, Stretch] = {}
    for short, long in _definitions(text).items():
        use = re.compile(rf"(?<![^\W_]){re.escape(short)}s?(?![^\W_]|-\d)")
        for match in use.finditer(text):
            if not (long[0] <= match.start() and match.end() <= long[1]):
                found[match.span()] = long
    return dict(sorted(found.items()))


def _definitions(text: str) -> dict[str, Stretch]:
    """The long form of each short form, the first definition of both."""
    if "(" not in text:
        return {}
    defined: dict[str, Stretch] = {}
    seen: set[str] = set()
    for bracket in _BRACKET.finditer(text):
        pair = _short_in_bracket(text, bracket) or _long_in_bracket(text, bracket)
        if pair is None:
            continue
        short, (start, end) = pair
        if short not in defined and text[start:end] not in seen:
            defined[short] = (start, end)
            seen.add(text[start:end])
    return defined


def _short_in_bracket(text: str, bracket: re.Match[str]) -> tuple[str, Stretch] | None:
    inside = _SHORT.match(bracket[1])
    if inside is None or not _may_be_short(inside[0]):
        return None
    short = inside[0]
    first = max(0, bracket.start() - _MAX_LONG)
    before = list(_TOKEN.finditer(text, first, bracket.start()))[-min(len(short) + 5, 2 * len(short)) :]
    if not before:
        return None
    if short.endswith("s") and short[:-1].isupper() and _may_be_short(short[:-1]):  # "absence seizures (ASs)"
        short = short[:-1]
    long = _long_form(text, before[0].start(), before[-1].end(), short)
    return None if long is None else (short, long)


def _long_in_bracket(text: str, bracket: re.Match[str]) -> tuple[str, Stretch] | None:
    if " " not in bracket[1]:
        return None
    before = list(_TOKEN.finditer(text, max(0, bracket.start() - 20), bracket.start()))
    if not before or before[-1].end() != bracket.start() - 1 or not _may_be_short(before[-1][0]):
        return None
    long = _long_form(text, bracket.start(1), bracket.end(1), before[-1][0])
    return None if long is None or long[0] != bracket.start(1) else (before[-1][0], long)


def _may_be_short(form: str) -> bool:
    words = form.split()
    return (
        all(2 <= len(word) < _MAX_LETTERS for word in words)
        and form[0].isalnum()
        and 2 * sum(c.isalpha() for c in form) >= len(form)
        and any(c.isupper() or c.isdigit() for c in form)
    )


def _long_form(text: str, first: int, end: int, short: str) -> Stretch | None:
    """The shortest stretch up to `end`, from `first` on, that has the letters of the short form in their order."""
    at = end
    letters = [c for c in short.lower() if c.isalnum()]
    for n, letter in enumerate(reversed(letters), 1):
        at -= 1
        while at >= first and (
            text[at].lower() != letter or (n == len(letters) and at > first and text[at - 1].isalnum())
        ):
            at -= 1
        if at < first:
            return None
    if end - at <= len(short) or short in _TOKEN.findall(text[at:end]):
        return None
    return at, end
