"""How words are made comparable, so that the graph's names are found however a text writes them.

A *word* is a run of letters and digits; hyphens, slashes and white space part words, a possessive 's falls away. Words
become comparable through `stem`: case, accents, Greek letters, British spelling, Roman numerals, plural and derivation
(Snowball's English stemmer and rules for Latin and Greek: dysplasia, dysplastic). Function words ("of the") are skipped
and the order of the words does not count, so that "abnormality of the heart" and "abnormal heart" are one; but the A of
"hepatitis A" is no function word (`letters`).

What may match how (`alias_codes`):

- case-sensitively only: names of concepts of case-sensitive types (genes), names that look like an abbreviation or a
  symbol (one word, no lower-case letter, at most six characters or with a digit), names of two characters;
- one short word (fewer than six letters): case, plural and spelling may differ, but not the derivation;
- everything else: by stems, in any order.
- A prefix of a word may be written apart or as one with it (`respelled`): pre-auricular, preauricular.
- The mark of a kind or of a rest may be missing (`unmarked`): Asthma (disorder), Pneumonia NOS.
- Names of one character, two-character names with a lower-case letter, names without a letter and names that consist
  of function words only are never looked for.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import snowballstemmer

MAX_WORDS = 12  # the longest window of content words that is looked up
MAX_LETTERS = 100  # no longer word is looked up
FUNCTION_WORDS = frozenset(
    "a an are as at be by due for from has have her his in into is it its of on s that the their these this to "
    "was were which with".split()
)
_BE = frozenset(("is", "are", "was", "were"))
# Verbs, and adverbs, that are names of other things as nouns.
_VERBS = frozenset(
    "address affect affects back drive form forms hope lead leads love outline record review smoke smokes sound sounds "
    "touch travel will work works".split()
)
# As written: "Can lead harm?" asks of lead.
_BEFORE_VERBS = frozenset("can cannot could I it may might must not shall should they we who will would you".split())
_BEFORE_TO = frozenset(("back", "lead", "leads"))
_BEFORE_NOUNS = frozenset("a an the this my your his her its our their own free living low lower upper mid of".split())
_USED = _VERBS | {"to", "medical"}
_CAPITALS = frozenset(word.upper() for word in FUNCTION_WORDS)
WORD = re.compile(r"([^\W_]+)(?:['\u2019][sS]\b)?")
_GREEK = str.maketrans(
    {
        letter: name
        for name, letters in {
            "alpha": "αΑ", "beta": "βϐΒ", "gamma": "γΓ", "delta": "δΔ", "epsilon": "εϵΕ", "zeta": "ζΖ", "eta": "ηΗ",
            "theta": "θϑΘ", "iota": "ιΙ", "kappa": "κΚ", "lambda": "λΛ", "mu": "μµΜ", "nu": "νΝ", "xi": "ξΞ",
            "pi": "πΠ", "rho": "ρΡ", "sigma": "σςΣ", "tau": "τΤ", "upsilon": "υΥ", "phi": "φϕΦ", "chi": "χΧ",
            "psi": "ψΨ", "omega": "ωΩ",
        }.items()
        for letter in letters
    }
)  # fmt: skip
_ROMAN = {
    "i": "1",
    "ii": "2",
    "iii": "3",
    "iv": "4",
    "vi": "6",
    "vii": "7",
    "viii": "8",
    "ix": "9",
    "xi": "11",
    "xii": "12",
}
# One spelling for British and American; what a rule does to a word outside its intention it does to both sides alike.
_SPELLING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"(?<=..)[ao]e(?=[a-z])(?!s$)|^[ao]e(?=[a-z]{3})|(?<=^.)[ao]e(?=[a-z]{3})", "e"),  # haem, oedema, foetal
        (r"(?<=[a-z]{3})our", "or"),
        (r"(?<=[a-z]{2})is(?=e$|ed$|es$|ing$|ation)", "iz"),
        (r"(?<=[a-z]{2})([tb])re$", r"\1er"),
        (r"sulph", "sulf"),
        (r"leuc(?=[aeo])", "leuk"),
        (r"ys(?=e$|ed$|es$|ing$)", "yz"),
        (r"grey", "gray"),
        (r"(?<=[a-z]{2})ll(?=ed$|ing$)", "l"),
    )
)
_SPELT = re.compile(r"[ao]e|our|is|[tb]re$|ulph|euc|ys|grey|ll(?:ed|ing)$")  # without it no rule of spelling applies
# Endings that turn one stem into another part of speech: hypotonia, hypotonic; microcephaly, microcephalic.
_ENDING = re.compile(r"(?:ia|ic|i|y|ism|al|a|us|um|ous|ae|is|e|ar)$")
_ADJECTIVE = ("tensive", "tension"), ("leptic", "lepsy")
_FINDING = re.compile(r"(?<!ar)(?:ia|ic|y)$")  # not pulmonary, Pulmonaria
# Nouns and adjectives whose stems differ: dysplasia, dysplastic; clavicle, clavicular; larynx, laryngeal.
_DERIVED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"(?<=..)otic$", "osis"),
        (r"(?<=plas)tic$|(?<=ecta)tic$", "ia"),
        (r"(?<=[aeg]re)tic$|(?<=[gn]e)tic$", "sis"),
        (r"(?<=...)leptic$", "lepsy"),
        (r"(?<!systema)(?<=.ma)t(?:ous|ic)$", ""),  # a systematic review is no review of systems
        (r"(?<=...ic)ular$|(?<=musc)ular$", "le"),
        (r"(?<=dib)ular$", "le"),
        (r"(?<=[rl][ya]n)ge(?:al|s)$", "x"),
        (r"(?<=cephal)(?:ic|us)$", "y"),
        (r"(?<=[aeiou]..)ence$", "ent"),
        (r"^feet$", "foot"),
        (r"^teeth$", "tooth"),
        (r"^testes$", "testis"),
    )
)
_DERIVING = ("ic", "ous", "ular", "geal", "ges", "us", "ence", "feet", "teeth", "testes")  # how these words end
# Prefixes, and parts of the body before another word, that are written with a hyphen, apart, or as one with their word.
_PREFIXED = re.compile(
    r"(?<![^\W_])(anti|extra|hyper|hypo|infra|inter|intra|macro|micro|mid|mono|multi|neo|non|over|para|peri|poly|post|pre"
    r"|pseudo|retro|semi|sub|super|supra|trans|ultra|under"
    r"|broncho|cardio|cerebro|cranio|gastro|genito|hepato|musculo|naso|neuro|oculo|osteo|spino|thrombo|tracheo|vesico)"
    r"([-\s]?)([^\W_]{4,})",
    re.IGNORECASE,
)
# A function word, behind another one, in a title's spelling: part of a name, as in Fill-It or Green Or.
_NAMED = re.compile(rf"(?<=[^\W_])[^\w]+(?:{'|'.join(sorted(w.capitalize() for w in FUNCTION_WORDS if len(w) > 1))})\b")
# What SNOMED CT calls semantic tags, at the end of a fully specified name.
_TAGGED = re.compile(
    r"\s+\((?:disorder|finding|procedure|situation|event|body structure|cell|cell structure|morphologic abnormality"
    r"|observable entity|organism|substance|product|medicinal product|clinical drug|physical object|qualifier value"
    r"|regime/therapy|person|social concept|specimen|navigational concept)\)$",
    re.IGNORECASE,
)
# What classifications add to the name of a rest: Gout, unspecified; Pneumonia NOS; Unspecified asthma; Pneumonia,
# unspecified organism; Urinary tract infection, site not specified.
_UNSPECIFIED = re.compile(
    r"^unspecified\s+|,?\s+\(?(?:NOS|NEC|not (?:otherwise specified|elsewhere classified))\)?$"
    r"|,\s+unspecified(?:\s+\w+){0,2}$|,\s+(?:\w+\s+){1,2}(?:unspecified|not specified)$",
    re.IGNORECASE,
)
_MARKS = 3  # of a name that are taken off
_KEPT = ("itis", "itides", "osis", "oses", "oma", "omas", "omata")
_stemmer = snowballstemmer.stemmer("english")


@lru_cache(maxsize=200_000)
def spelling(word: str) -> str:
    """A word in lower case, with plain letters and in one spelling, its plural ending included."""
    plain = word.lower()
    if not plain.isascii():
        plain = unicodedata.normalize("NFKD", word.translate(_GREEK).lower())
        plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = _ROMAN.get(plain, plain)
    if _SPELT.search(plain):
        for pattern, instead in _SPELLING:
            plain = pattern.sub(instead, plain)
    return plain


def singular(word: str) -> str:
    """`spelling` without the plural ending."""
    plain = spelling(word)
    for ending, instead in (("omata", "oma"), ("oses", "osis"), ("itides", "itis")):
        if plain.endswith(ending):
            return plain.removesuffix(ending) + instead
    if plain == "news":  # of which "new" is no singular
        return plain
    if len(plain) > 4 and plain.endswith("ies"):
        return plain[:-3] + "y"
    if len(plain) > 4 and plain.endswith(("ses", "xes", "zes", "ches", "shes")):
        return plain[:-2]
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and plain[-2] not in "sui" else plain


def base(word: str) -> str:
    """The form by which a name of one word is known: singular, and for a long word its noun and adjective as one."""
    plain = singular(word)
    for adjective, noun in _ADJECTIVE:
        if len(plain) > len(adjective) + 2 and plain.endswith(adjective):
            return plain.removesuffix(adjective) + noun
    short = _FINDING.sub("", plain)  # a cell, as in neutrophil, is not the finding, neutrophilia
    return short + "y" if len(short) >= 6 and short != plain else plain


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """What is left of a word when spelling, plural and derivation no longer tell."""
    plain = spelling(word)
    if plain in ("absence", "absences"):  # see `absences`
        return "absence"
    if len(plain) > 64 or not plain.isalpha():  # nothing to inflect; the stemmer is quadratic on very long words
        return plain
    if plain.endswith(_DERIVING):
        for pattern, instead in _DERIVED:
            plain = pattern.sub(instead, plain)
    if plain.endswith(_KEPT):  # gingivitis is not gingival
        return singular(plain)
    stemmed = _stemmer.stemWord(plain)
    short = _ENDING.sub("", stemmed)
    return short if len(short) >= 5 else str(stemmed)


@lru_cache(maxsize=200_000)
def word_code(word: str) -> int:
    """A number below 2**56 for a word; the sum over the words of a name is its key, whatever their order.

    Two names of different words share a key with a chance of about 2**-56 for each pair, so keys are not verified.
    """
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")


def is_said(name: str, text: str) -> bool:
    """Whether a text has a name as it is, or its plural: *anomalies* is *Anomaly*, *morphine* is not *Morphines*."""
    of_name, of_text = WORD.findall(name), WORD.findall(text)
    return len(of_name) == len(of_text) and all(
        spelling(one) in (spelling(other), singular(other)) for one, other in zip(of_name, of_text, strict=True)
    )


def is_symbol(name: str, *, capitals: bool = False) -> bool:
    """Whether a name looks like an abbreviation or a symbol: BRCA1, ASD, HLA-DRB1.

    In a vocabulary in capitals, where FEVER is a word, only one of three letters at most or with a digit does.
    """
    longest = 3 if capitals else 6
    return (
        " " not in name
        and not any(c.islower() for c in name)
        and any(c.isupper() for c in name)
        and (len(name) <= longest or any(c.isdigit() for c in name))
    )


def absences(lower: Sequence[str]) -> list[int]:
    """Places, in lower-case words, of *absence* where it says that something is absent: no content word comes next.

    "Absence of a tooth" is an absent tooth. An absence seizure is neither "no seizures" nor "absence of seizures".
    """
    if "absence" not in lower:
        return []
    last = [*(word in FUNCTION_WORDS for word in lower[1:]), True]
    return [n for n, word in enumerate(lower) if word == "absence" and last[n]]


def unnamed(words: Sequence[str], lower: Sequence[str]) -> list[int]:
    """Places of words, as written and in lower case, that are part of no name as they are used in a longer text.

    "It will work", but the will; "back to work", but my back to the side; "do you smoke", "may affect", "leads to"; and
    *to* where it tells a purpose: "the aim of this study was to evaluate" speaks of no evaluation study. A medical
    history is none of medicine.
    """

    def is_unnamed(n: int, word: str) -> bool:
        before, after = lower[n - 1] if n else "", lower[n + 1] if n + 1 < len(lower) else ""
        if word == "to":
            return before in _BE
        if word == "medical":
            return after == "history" and lower[n + 2 : n + 3] != ["taking"]
        if before in _BEFORE_NOUNS:
            return False
        verb = n > 0 and words[n - 1] in _BEFORE_VERBS
        return verb or word == "will" or (after == "to" and word in _BEFORE_TO)

    return [n for n, word in enumerate(lower) if word in _USED and len(lower) > 1 and is_unnamed(n, word)]


def letters(words: Sequence[str]) -> list[int]:
    """Places of words that are letters or symbols, not the function words spelt alike: hepatitis A, the AT hook.

    They are in capitals, and where they have more than one letter the words beside them are not: "PAIN IN THE NECK". An
    *a* that no word follows, or *and*, is no article: "hepatitis a and b".
    """

    def is_letter(n: int, word: str) -> bool:
        if word == "a":
            return n + 1 == len(words) or words[n + 1].lower() in ("and", "or")
        beside = (*words[max(n - 1, 0) : n], *words[n + 1 : n + 2])
        return len(word) == 1 or not any(other.isupper() and other.isalpha() for other in beside)

    return [n for n, word in enumerate(words) if (word in _CAPITALS or word == "a") and is_letter(n, word)]


def content_words(text: str) -> list[str]:
    """The words of a name that are not function words, as written, but for `absences`."""
    words = WORD.findall(text)
    spelt = letters(words)
    for place in absences([word.lower() for word in words]):
        words[place] = "absent"
    return [word for n, word in enumerate(words) if n in spelt or word.lower() not in FUNCTION_WORDS]


def respelled(name: str) -> list[tuple[str, str]]:
    """A name with a prefix parted from its word or joined to it: preauricular, pre-auricular.

    With each the word without the prefix if it was one with it: it may be no word at all, as in *interest*; else "".
    """
    return [
        (f"{name[: match.start()]}{prefix}{'' if between else ' '}{word}{name[match.end() :]}", "" if between else word)
        for match in _PREFIXED.finditer(name)
        for prefix, between, word in [match.groups()]
    ]


def unmarked(name: str) -> tuple[str, int] | None:
    """A name without the mark of its kind or of a rest, with what it costs; None for a name without such a mark.

    *Asthma (disorder)* is *Asthma*; what is *Asthma, unspecified* comes after what is *Asthma*, and after it what
    leaves more open (*Unspecified asthma, unspecified severity*).
    """
    plain = _TAGGED.sub("", name)
    cost = 0
    while cost < _MARKS and (shorter := _UNSPECIFIED.sub("", plain, count=1)) not in (plain, ""):
        plain, cost = shorter, cost + 1
    return (plain, cost) if plain != name and plain else None


def alias_codes(name: str, case_sensitive: bool) -> list[int]:
    """The codes of a name's words in the way it may match; empty for a name that is never looked for.

    Args:
        name: Of a concept.
        case_sensitive: Whether it matches as written only, as a symbol and a gene's name do.
    """
    if not any(c.isalpha() for c in name) or len(name) < 2:
        return []
    as_written = [word_code("!" + word) for word in WORD.findall(name)]
    if case_sensitive or len(name) < 3:
        return [] if len(name) < 3 and not name.isupper() else as_written
    words = content_words(name)
    if len(words) > MAX_WORDS or any(len(word) > MAX_LETTERS for word in words):
        return []
    if len(words) == 1:
        return as_written if re.search(_NAMED, name) else [word_code("=" + base(words[0]))]
    if all(len(word) <= 2 for word in words):  # UP II is not "up to 2"
        return as_written if words else []
    return [word_code(stem(word)) for word in words]
