"""Which words stand for one another, as the graph's own synonyms show.

Two synonyms of one concept that differ in a single word pair these words: *renal anomaly*, *kidney anomaly*. A pair
seen with several concepts, and with a fair share of those that have either word, is taken as a rule of the vocabulary,
so that *renal cyst* is found where the graph only has *kidney cyst*. Of common words a smaller share will do: 11 of
MeSH's 214 concepts with a *neoplasm* in a name have a *cancer* in its place, and *breast cancer* is no name of its own.
Likewise a word that synonyms often leave out (*abnormal rib morphology*, *abnormal ribs*) may be missing. Rules are not
chained: a name gives way in one word, or in two if it has three words or more.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from kg.matching import stem

MIN_CONCEPTS = 3  # concepts whose synonyms show a pair
MIN_SHARE = 0.15  # of the concepts that have the rarer of the two words
COMMON_CONCEPTS = 5  # concepts with which a pair of words, not of symbols, is seen if a smaller share is to do
COMMON_SHARE = 0.03
MIN_WORD = 4  # letters of a stem that is no symbol or number of chemistry: leu, leucine
GENERAL = 0.01  # of the concepts with a word that have the other, too; else it says less: receptor, purinoceptor
MIN_OMITTED = 0.4  # share of the concepts with a word that have a synonym without it
MAX_ALIASES = 30  # of a concept that are compared with one another
MAX_VARIANTS = 40  # keys of one name
# What texts say for "abnormality" where the graph's names have some of it too: HPO's have, MeSH's are malformations.
_ABNORMALITY = "abnormality"
_ABNORMALITIES = ("anomaly", "defect", "disorder", "involvement", "lesion", "malformation", "manifestation", "sign")


@dataclass(frozen=True, slots=True)
class Variants:
    """Stems that may stand for a stem, and stems that may be left out of a name."""

    instead: Mapping[str, tuple[str, ...]]
    omitted: frozenset[str]
    head: ClassVar[str] = stem(_ABNORMALITY)

    def of(self, stems: Sequence[str]) -> Iterable[tuple[tuple[str, ...], int]]:
        """Other forms of a name of several words, each with the number of words in which it differs; nearest first."""
        forms: dict[tuple[str, ...], int] = {tuple(stems): 0}
        for depth in (1, 2) if len(stems) > 2 or self.head in stems else (1,):
            for form in [form for form, cost in forms.items() if cost == depth - 1]:
                for place, word in enumerate(form):
                    if word != stems[place]:
                        continue
                    for other in self.instead.get(word, ()):
                        changed = (*form[:place], other, *form[place + 1 :])
                        told = any(len(word) > 2 for word in changed)  # "vs 1" is too little for a name
                        if told and len(forms) <= MAX_VARIANTS and other not in form:
                            forms.setdefault(changed, depth)
        for form, cost in list(forms.items()):
            left = tuple(word for word in form if word not in self.omitted)
            if len(left) > 1:
                forms.setdefault(left, cost + 1)
        del forms[tuple(stems)]
        return forms.items()


NONE = Variants({}, frozenset())


def learn_variants(names: Iterable[Iterable[Sequence[str]]]) -> Variants:
    """Rules from the exact synonyms of each concept, given as the stems of each name."""
    pairs: Counter[tuple[str, str]] = Counter()
    omitted: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for synonyms in names:
        sets = sorted({frozenset(stems) for stems in synonyms}, key=sorted)[:MAX_ALIASES]
        seen.update(set().union(*sets))
        found: set[tuple[str, str]] = set()
        left: set[str] = set()
        for a, b in combinations(sets, 2):
            if not a & b:
                continue
            only_a, only_b = sorted(a - b), sorted(b - a)
            if len(only_a) == 1 == len(only_b):
                found.add((min(only_a[0], only_b[0]), max(only_a[0], only_b[0])))
            elif len(only_a) + len(only_b) == 1:
                left.update(only_a, only_b)
        pairs.update(found)
        omitted.update(left)
    instead: dict[str, set[str]] = {}
    for (one, other), count in pairs.items():
        if min(len(one), len(other)) < 2:  # a letter or a number: any of them stands beside any other somewhere
            continue
        share = count / min(seen[one], seen[other])
        words = min(len(one), len(other)) >= MIN_WORD and one.isalpha() and other.isalpha()
        common = words and count >= COMMON_CONCEPTS and share >= COMMON_SHARE
        if common or (count >= MIN_CONCEPTS and share >= MIN_SHARE):
            for said, named in ((one, other), (other, one)):
                if count >= GENERAL * seen[said]:
                    instead.setdefault(named, set()).add(said)
    abnormal = {stem(word) for word in _ABNORMALITIES}
    if not abnormal.isdisjoint(instead.get(Variants.head, ())):
        instead[Variants.head] |= abnormal
    often = {w for w, n in omitted.items() if n >= 10 and n >= MIN_OMITTED * seen[w]}
    return Variants({word: tuple(sorted(others)) for word, others in sorted(instead.items())}, frozenset(often))
