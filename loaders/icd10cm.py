"""ICD-10-CM, the tabular list as XML: chapters, sections, categories and codes, each below the next greater one.

Format: CDC/NCHS, https://www.cdc.gov/nchs/icd/icd-10-cm/files.html; what its names leave open is read as the official
guidelines for coding say, section I.A.7 (parentheses and brackets) and I.A.14 (*and* in a title is *and* or *or*).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from loaders.errors import InputError
from loaders.lines import open_bytes, reading
from loaders.options import DEFAULTS, Options
from loaders.tables import Account, Batch, Rows

PREFIX = "ICD10CM:"
_SOURCE = "ICD10CM"
_BLOCKS = ("chapter", "section", "diag")
# Notes of a code, each an attribute; the fourth kind of note, inclusion terms, are names.
_NOTES = ("includes", "excludes1", "excludes2", "codeFirst", "codeAlso", "useAdditionalCode", "sevenChrNote", "notes")
_CHUNK = 1 << 16  # bytes
_NO_CONDITIONS = frozenset("VWXYZ")  # causes from outside, reasons for an encounter
_OF_THINGS = re.compile(r"related disorders|effects? of|poisoning by|^other diseases of", re.IGNORECASE)
_DESCRIPTION = re.compile(
    r"classifiable to|\blisted\b|^(?:any|all|the|these|those|conditions?|codes?)\b", re.IGNORECASE
)
_PLURAL = re.compile(r"(?<=\w)\((?:e?s)\)")
_ASIDE = re.compile(r"\([^()\[\]]*\)|\[[^()\[\]]*\]")
_SYNONYM = re.compile(r"([^()\[\]]+?) \[([^()\[\]]+)\]")
_EITHER = re.compile(r"(\w+) and (\w+)")
_SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def read_icd10cm(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Concepts, names and the hierarchy of a tabular list; the account counts chapters, sections and codes.

    Ids are `ICD10CM:A00.0`, `ICD10CM:A00-A09` for a section and `ICD10CM:chapter-1` for a chapter. Inclusion terms are
    names of the kind `related`: conditions that are coded there, often narrower ones; so is what a code includes,
    where that is no list of other things (`_lists`), and the `other_forms` of a name. The notes of a code are its
    attributes (`excludes1`, `code_first`, ...), and so is `placeholder` where a code only fills a place. The characters
    that complete a code are its attribute `seventh_character`: those that it defines itself, else those of the nearest
    code above it; codes so completed are not spelled out. The table of visual impairment at H54 is not read.

    Raises:
        InputError: no well-formed XML, XML that defines entities, or a code without a name or twice; with
            `options.skip_bad` such a code is counted and left out.
    """
    rows = Rows()
    seen: set[str] = set()
    above: list[ElementTree.Element] = []
    for event, element in _events(path):
        if event == "start":
            above.append(element)
            continue
        above.pop()
        if element.tag == "version":
            account.release = (element.text or "").strip()
        if element.tag not in _BLOCKS:
            continue
        id = _id(element)
        fault = "without a code" if not id else "that is there twice" if id in seen else ""
        if fault:
            if not options.skip_bad:
                raise InputError(path, None, f"a {element.tag} {fault} ({id or _name(element)!r}); mend the file")
            account.drop(f"malformed: a {element.tag} {fault}")
        else:
            seen.add(id)
            _add(rows, id, element)
            blocks = [block for block in above if block.tag in _BLOCKS]
            _add_seventh(rows, id, [element, *reversed(blocks)])
            if blocks and _id(blocks[-1]):
                rows.add("triples", id, "is_a", _id(blocks[-1]), _SOURCE, "")
            account.keep()
        for child in list(element):
            if child.tag not in ("name", "desc"):
                element.remove(child)
        yield from rows.full()
    if not seen:
        raise InputError(path, None, "holds no chapter and no code; the tabular list of ICD-10-CM is expected")
    rows.add("sources", _SOURCE, account.release or None, 0, "public domain")
    yield from rows.rest()


def is_icd10cm(head: list[str]) -> bool:
    """Whether the first lines of a file are those of a tabular list."""
    return any("<ICD10CM.tabular" in line for line in head)


def other_forms(name: str, *, title: bool) -> list[str]:
    """What a name also says: *Essential (primary) hypertension* is *Essential hypertension*, *Seizure(s)* a *Seizure*.

    Words in parentheses may be there or not; words in brackets say the same again or explain, so that they are left
    out, and are a name by themselves beside a name of one word (*Rubella [German measles]*) or as its initials. A
    title of two words joined by *and* names what is either.
    """
    forms = [" ".join(_ASIDE.sub(" ", _PLURAL.sub("", name)).split()).replace(" ,", ",")]
    if bracket := _SYNONYM.fullmatch(name):
        said, again = bracket.groups()
        if " " not in said or _are_initials(again, said):
            forms.append(again)
    if title and (either := _EITHER.fullmatch(name)):
        forms += [either[1], either[2].capitalize()]
    return [form for form in dict.fromkeys(forms) if form != name and re.search(r"\w\w", form)]


def _lists(element: ElementTree.Element) -> bool:
    """Whether a block includes what is no condition: places of the body, substances, vehicles, groups of codes."""
    code = _text(element.find("name"))
    return element.tag != "diag" or code[:1] in _NO_CONDITIONS or bool(_OF_THINGS.search(_name(element)))


def _are_initials(letters: str, name: str) -> bool:
    """Whether the words of a name begin with these capitals, the first with the first; words may be passed over."""
    left = iter(word[0].upper() for word in name.split())
    return letters.isupper() and letters[0] == name[0].upper() and all(letter in left for letter in letters)


def _events(path: Path) -> Iterator[tuple[str, ElementTree.Element]]:
    """Starts and ends of elements; entities are refused before anything could refer to them."""
    parser: Any = ElementTree.XMLPullParser(("start", "end"))  # what its events hold depends on their names
    started, before = False, b""
    with open_bytes(path) as file, reading(path):
        try:
            while chunk := file.read(_CHUNK):
                # Only ahead of the first element can there be definitions.
                if not started and b"<!ENTITY" in before + chunk:
                    raise InputError(path, None, "defines entities, which the tabular list never does; fetch it anew")
                before = chunk[-len(b"<!ENTITY") :]
                parser.feed(chunk)
                for event, element in parser.read_events():
                    started = True
                    yield event, element
            parser.close()
            yield from parser.read_events()
        except ElementTree.ParseError as error:
            line, _ = error.position
            raise InputError(path, line, f"no well-formed XML ({error}); fetch the file anew") from error
        except (ValueError, LookupError) as error:  # an encoding that there is not
            raise InputError(path, None, f"cannot be read as XML ({error}); convert it to UTF-8") from error


def _id(element: ElementTree.Element) -> str:
    if element.tag == "section":
        code = element.get("id", "")
        code = code if "-" in code or not code else f"{code}-{code}"  # a section of one category, which has that id
    else:
        code = _text(element.find("name"))
        code = f"chapter-{code}" if element.tag == "chapter" and code else code
    return PREFIX + code if code and not re.search(r"\s", code) else ""


def _name(element: ElementTree.Element) -> str:
    return _text(element.find("desc")) or _text(element.find("name"))


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


def _add(rows: Rows, id: str, element: ElementTree.Element) -> None:
    name = _name(element) or id
    if element.tag == "section":  # "Intestinal infectious diseases (A00-A09)"
        name = name.removesuffix(f"({id.removeprefix(PREFIX)})").strip() or name
    type_ = {"chapter": "Chapter", "section": "Section", "diag": "Code"}[element.tag]
    rows.add("concepts", id, name, [type_], None, _SOURCE)
    rows.add("names", id, name, "preferred", "en", _SOURCE, False)
    terms = [term for note in element.iterfind("inclusionTerm/note") if (term := _text(note))]
    if not _lists(element):
        included = map(_text, element.iterfind("includes/note"))
        terms += [term for term in included if term and not _DESCRIPTION.search(term)]
    below = {_name(code).lower().split(",")[0] for code in element.iter("diag") if code is not element}
    either = element.tag == "diag" and not any(one.lower() in below for one in name.split(" and "))
    forms = [*terms, *other_forms(name, title=either)]
    forms += [form for term in terms for form in other_forms(term, title=False)]
    for form in dict.fromkeys(forms):
        if form != name:
            rows.add("names", id, form, "related", "en", _SOURCE, False)
    for kind in _NOTES:
        for note in element.iterfind(f"{kind}/note"):
            if _text(note):
                rows.add("attributes", id, _SNAKE.sub("_", kind).lower(), _text(note), _SOURCE)
    if element.get("placeholder") == "true":
        rows.add("attributes", id, "placeholder", "true", _SOURCE)


def _add_seventh(rows: Rows, id: str, nearest_first: list[ElementTree.Element]) -> None:
    """The characters that complete a code, as it or the nearest code above defines them."""
    table = next((found for block in nearest_first if (found := block.find("sevenChrDef")) is not None), ())
    char = ""
    for entry in table:  # a note says more of the character before it
        char = entry.get("char", char)
        rows.add("attributes", id, "seventh_character", f"{char}: {_text(entry)}", _SOURCE)
