"""MeSH as XML: descriptors (desc2026.xml), supplementary concept records (supp2026.xml) and qualifiers (qual2026.xml).

A record is a concept of the graph; the "concepts" inside it are groups of its names, each broader, narrower or merely
related to the preferred one. Facts are between records. One record is in memory at a time.
Format: NLM, https://www.nlm.nih.gov/mesh/xml_data_elements.html
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from loaders.errors import InputError
from loaders.lines import open_bytes, reading
from loaders.options import DEFAULTS, Options
from loaders.sources import head
from loaders.tables import Account, Batch, Rows

PREFIX = "MESH:"
_SOURCE = "MESH"
# Root of the file -> its records, and how the elements for the id and the name of a record begin.
_ROOTS = {
    "DescriptorRecordSet": ("DescriptorRecord", "Descriptor"),
    "SupplementalRecordSet": ("SupplementalRecord", "SupplementalRecord"),
    "QualifierRecordSet": ("QualifierRecord", "Qualifier"),
}
# The beginning of a tree number -> semantic type; the longest that fits counts.
TREE_TYPES = {
    "A": "Anatomy",
    "B": "Organism",
    "C": "Disease",
    "D": "Chemical",
    "E": "Procedure",
    "F": "Psychology",
    "F03": "Disease",
    "G": "Phenomenon",
    "H": "Discipline",
    "I": "Society",
    "J": "Technology",
    "K": "Humanities",
    "L": "Information",
    "M": "Group",
    "N": "HealthCare",
    "V": "Publication",
    "Y": "Qualifier",
    "Z": "Place",
}
# SupplementalRecord.SCRClass -> semantic type.
SUPPLEMENTARY_TYPES = {
    "1": "Chemical",
    "2": "Procedure",
    "3": "Disease",
    "4": "Organism",
    "5": "Group",
    "6": "Anatomy",
}
# ConceptRelation.RelationName, of the second concept to the first, and seen from the other end.
_KINDS = {"NRW": "narrow", "BRD": "broad", "REL": "related"}
_TURNED = {"narrow": "broad", "broad": "narrow", "related": "related"}
_MATCHES = {
    "exact": "xref",
    "narrow": "skos:narrowMatch",
    "broad": "skos:broadMatch",
    "related": "skos:relatedMatch",
}
# Relation -> where its tails are.
_RELATIONS = {
    "has_pharmacological_action": "PharmacologicalActionList/PharmacologicalAction/DescriptorReferredTo",
    "related_to": "SeeRelatedList/SeeRelatedDescriptor/DescriptorReferredTo",
}
# Attributes that are always kept, and those kept when asked for.
_ATTRIBUTES = {"tree_number": "TreeNumberList/TreeNumber", "note": "Note"}
_ON_REQUEST = {
    "annotation": "Annotation",
    "history_note": "HistoryNote",
    "public_mesh_note": "PublicMeSHNote",
    "online_note": "OnlineNote",
    "consider_also": "ConsiderAlso",
    "previous_indexing": "PreviousIndexingList/PreviousIndexing",
    "nlm_classification_number": "NLMClassificationNumber",
    "allowable_qualifier": "AllowableQualifiersList/AllowableQualifier/QualifierReferredTo/QualifierUI",
    "frequency": "Frequency",
    "source": "SourceList/Source",
}
# What a registry number is a number of.
_REGISTRIES = (
    (re.compile(r"\d{2,7}-\d\d-\d"), "CAS:{}"),
    (re.compile(r"[A-Z0-9]{10}"), "UNII:{}"),
    (re.compile(r"EC (\d+(?:\.[\dn-]+){1,3})"), "EC:{}"),
    (re.compile(r"txid(\d+)"), "NCBITaxon:{}"),
)
_UI = re.compile(r"\*?([CDQ]\d{3,10})")
_TREE_NUMBER = re.compile(r"[A-Z]\d\d(?:\.\d+)*")
_BREAK = re.compile(r"[ \t\r]*\n[ \t\r\n]*")
_DTD_YEAR = re.compile(r"nlm\w+set_(\d{4})\d{4}\.dtd")
_NAME_YEAR = re.compile(r"^(?:desc|supp|qual)(\d{4})\b")
# LanguageCode of the file (three letters) -> ISO 639-1.
_LANGUAGES = {"eng": "en", "fre": "fr", "ger": "de", "spa": "es", "por": "pt", "ita": "it", "dut": "nl", "cze": "cs"}
_LANGUAGES |= {"nor": "no", "swe": "sv", "fin": "fi", "pol": "pl", "rus": "ru", "jpn": "ja", "scr": "hr", "hrv": "hr"}


def read_mesh(path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]:
    """Concepts, names, facts and registry numbers of one MeSH file; the account counts its records.

    - Ids are `MESH:D000001`, `MESH:C000002`, `MESH:Q000008`. Types come from the tree (`TREE_TYPES`), of supplementary
      records from their class (`SUPPLEMENTARY_TYPES`).
    - Terms of the preferred concept are names of the kind `exact`, permuted ones included; those of the others are
      narrow, broad or related. The preferred scope note is the definition; several are all attributes too.
    - `is_a` leads from each tree number to the one without its last part, where a record of the same file has that;
      `has_pharmacological_action`, `related_to` (see also) and `mapped_to` (from a supplementary record to a heading)
      are as stated. The evidence of `mapped_to` tells the qualifier, and `major` where the file stars the heading.
    - Registry numbers are mappings to CAS, UNII, EC or NCBITaxon: `xref` for those of the preferred concept, else
      a SKOS match; numbers of another form are attributes `registry_number`.
    - The attributes `tree_number` and `note` are kept always, others if `options.attributes` asks for them (`*`: all):
      annotation, history_note, public_mesh_note, online_note, consider_also, previous_indexing,
      nlm_classification_number, allowable_qualifier, frequency, source.

    Entry combinations, dates and thesaurus ids are not read. The release is the year of the file's DTD or of its name.

    Raises:
        InputError: no well-formed XML or another root; a record without an id or name, twice, or with a reference
            that is no id; with `options.skip_bad` such a record is counted and left out. Always: no record at all.
    """
    account.release = _release(path)
    file = _File(_wanted(options))
    rows = Rows()
    number = 0
    for record, stem in _records(path, file):
        number += 1
        try:
            found = _read(record, stem, file)
        except _Fault as fault:
            if not options.skip_bad:
                raise InputError(path, None, f"record {number}: {fault}; mend the file, or skip bad records") from None
            account.drop(f"malformed: {fault.reason}")
            continue
        account.keep()
        for table, values in found:
            rows.add(table, *values)
        yield from rows.full()
    if not number:
        raise InputError(path, None, "holds no record; descriptors, supplementary records or qualifiers are expected")
    for child, parent in file.hierarchy():
        rows.add("triples", PREFIX + child, "is_a", PREFIX + parent, _SOURCE, "")
        yield from rows.full()
    rows.add("sources", _SOURCE, account.release or None, 0, "NLM's terms for MeSH")
    yield from rows.rest()


def is_mesh(head: list[str]) -> bool:
    """Whether the first lines of a file are those of a set of MeSH records."""
    return any(f"<{root}" in line for line in head for root in _ROOTS)


class _Fault(Exception):
    """What is wrong with a record; `reason` without the particulars."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail!r})" if detail else reason)
        self.reason = reason


_Row = tuple[str, tuple[object, ...]]  # table, values


@dataclass
class _File:
    """What is known of a file beyond the record at hand."""

    attributes: dict[str, str]
    language: str = "en"
    ids: set[str] = field(default_factory=set)
    trees: dict[str, str] = field(default_factory=dict)  # tree number -> id

    def hierarchy(self) -> Iterator[tuple[str, str]]:
        """(child, parent) of every tree number below another one, each pair once."""
        pairs = dict.fromkeys(
            (id, self.trees[above])
            for number, id in self.trees.items()
            if (above := number.rpartition(".")[0]) in self.trees
        )
        yield from pairs


def _wanted(options: Options) -> dict[str, str]:
    asked = {name.lower() for name in options.attributes}
    return _ATTRIBUTES | {name: path for name, path in _ON_REQUEST.items() if "*" in asked or name in asked}


def _release(path: Path) -> str:
    found = _DTD_YEAR.search("\n".join(head(path)[:20])) or _NAME_YEAR.match(path.name)
    return found[1] if found else ""


def _records(path: Path, file: _File) -> Iterator[tuple[Element, str]]:
    """The records of a file, each emptied when the next is asked for, and how their id elements begin.

    The parser fetches nothing from outside and stops at entities that blow up.
    """
    with open_bytes(path) as opened, reading(path):
        try:
            events = ElementTree.iterparse(opened, events=("start", "end"))
            root = next(events)[1]
            if root.tag not in _ROOTS:
                raise InputError(
                    path, None, f"the root is <{root.tag}>, not one of {', '.join(_ROOTS)}; check the file"
                )
            tag, stem = _ROOTS[root.tag]
            code = root.get("LanguageCode", "eng").lower()
            file.language = _LANGUAGES.get(code, "")
            for event, element in events:
                if event == "end" and element.tag == tag:
                    yield element, stem
                    root.clear()
        except ElementTree.ParseError as error:
            line, _ = error.position
            raise InputError(path, line, f"no well-formed XML ({error}); fetch the file anew") from error
        except (ValueError, LookupError) as error:  # an encoding that there is not
            raise InputError(path, None, f"cannot be read as XML ({error}); convert it to UTF-8") from error


def _read(record: Element, stem: str, file: _File) -> list[_Row]:
    """All rows of a record but its place in the hierarchy, which is noted in `file`.

    Raises:
        _Fault: the record is malformed; `file` is then as before.
    """
    ui = _ui(record.find(f"{stem}UI"), "id")
    name = _text(record.find(f"{stem}Name/String"))
    if not name:
        raise _Fault("a record without a name", ui)
    if ui in file.ids:
        raise _Fault("a record that is there twice", ui)
    trees = list(dict.fromkeys(_texts(record, "TreeNumberList/TreeNumber")))
    for number in trees:
        if not _TREE_NUMBER.fullmatch(number):
            raise _Fault("a tree number that is none", number)
        if number in file.trees:
            raise _Fault("a tree number that another record has", number)
    id = PREFIX + ui
    kinds = _concept_kinds(record)
    notes = _notes(kinds)
    rows: list[_Row] = [
        ("concepts", (id, name, _types(record, ui, trees), notes[0] if notes else None, _SOURCE)),
        ("names", (id, name, "preferred", file.language, _SOURCE, False)),
        *_names(id, name, kinds, file.language),
        *_facts(id, record),
        *_registry_numbers(id, kinds),
    ]
    if len(notes) > 1:
        rows += [("attributes", (id, "definition", note, _SOURCE)) for note in notes]
    for attribute, place in file.attributes.items():
        for value in dict.fromkeys(_texts(record, place)):
            rows.append(("attributes", (id, attribute, value, _SOURCE)))
    file.ids.add(ui)
    file.trees.update(dict.fromkeys(trees, ui))
    return rows


def _types(record: Element, ui: str, trees: Iterable[str]) -> list[str]:
    if record.tag == "SupplementalRecord":
        type_ = SUPPLEMENTARY_TYPES.get(record.get("SCRClass", "1"))
        return [type_] if type_ else []
    if ui.startswith("Q"):
        return ["Qualifier"]
    found = (TREE_TYPES.get(number[:3]) or TREE_TYPES.get(number[0]) for number in trees)
    return sorted({type_ for type_ in found if type_})


def _concept_kinds(record: Element) -> list[tuple[Element, str]]:
    """The concepts of a record, the preferred one first, and the kind of name that their terms are."""
    concepts = record.findall("ConceptList/Concept")
    preferred = next((concept for concept in concepts if concept.get("PreferredConceptYN") == "Y"), None)
    if preferred is None:
        if concepts:
            raise _Fault("a record without a preferred concept")
        return []
    ui = _text(preferred.find("ConceptUI"))
    kinds: dict[str, str] = {}
    for relation in record.iterfind("ConceptList/Concept/ConceptRelationList/ConceptRelation"):
        kind = _KINDS.get(relation.get("RelationName", ""), "related")
        first, second = _text(relation.find("Concept1UI")), _text(relation.find("Concept2UI"))
        if first == ui:
            kinds.setdefault(second, kind)
        elif second == ui:
            kinds.setdefault(first, _TURNED[kind])
    others = [concept for concept in concepts if concept is not preferred]
    return [
        (preferred, "exact"),
        *((concept, kinds.get(_text(concept.find("ConceptUI")), "related")) for concept in others),
    ]


def _notes(kinds: Iterable[tuple[Element, str]]) -> list[str]:
    """The scope notes, that of the preferred concept first."""
    return list(dict.fromkeys(note for concept, _ in kinds if (note := _text(concept.find("ScopeNote")))))


def _names(id: str, preferred: str, kinds: Iterable[tuple[Element, str]], language: str) -> Iterator[_Row]:
    seen = {preferred}
    for concept, kind in kinds:
        for name in [*_texts(concept, "TermList/Term/String"), *_texts(concept, "CASN1Name")]:
            if name not in seen:
                seen.add(name)
                yield "names", (id, name, kind, language, _SOURCE, False)


def _facts(id: str, record: Element) -> Iterator[_Row]:
    for relation, place in _RELATIONS.items():
        for target in record.iterfind(place):
            tail = _ui(target.find("DescriptorUI"), relation)
            yield "triples", (id, relation, PREFIX + tail, _SOURCE, "")
    for mapped in record.iterfind("HeadingMappedToList/HeadingMappedTo"):
        heading = mapped.find("DescriptorReferredTo/DescriptorUI")
        qualifier = mapped.find("QualifierReferredTo/QualifierUI")
        members = []
        if "*" in _text(heading) or "*" in _text(qualifier):
            members.append('"major": true')
        if qualifier is not None:
            members.append(f'"qualifier": "{PREFIX}{_ui(qualifier, "mapped_to")}"')
        evidence = "{" + ", ".join(members) + "}" if members else ""
        yield "triples", (id, "mapped_to", PREFIX + _ui(heading, "mapped_to"), _SOURCE, evidence)


def _registry_numbers(id: str, kinds: Iterable[tuple[Element, str]]) -> Iterator[_Row]:
    seen: set[str] = set()
    for concept, kind in kinds:
        own = [*_texts(concept, "RegistryNumber"), *_texts(concept, "RegistryNumberList/RegistryNumber")]
        related = _texts(concept, "RelatedRegistryNumberList/RelatedRegistryNumber")
        for predicate, numbers in ((_MATCHES[kind], own), (_MATCHES["related"], related)):
            for number in numbers:
                number = number.split(" (")[0]  # "52665-69-7 (Calcimycin)"
                if number in ("", "0") or number in seen:
                    continue
                seen.add(number)
                if curie := _registry_curie(number):
                    yield "mappings", (id, predicate, curie, _SOURCE, "")
                else:
                    yield "attributes", (id, "registry_number", number, _SOURCE)


def _registry_curie(number: str) -> str:
    for pattern, curie in _REGISTRIES:
        if found := pattern.fullmatch(number):
            return curie.format(found[found.lastindex or 0])
    return ""


def _ui(element: Element | None, what: str) -> str:
    """The id that an element holds, without the star of a major heading."""
    found = _UI.fullmatch(_text(element))
    if not found:
        raise _Fault(f"no MeSH id for {what}" if what != "id" else "a record without a MeSH id", _text(element))
    return found[1]


def _texts(element: Element, place: str) -> list[str]:
    return [text for found in element.iterfind(place) if (text := _text(found))]


def _text(element: Element | None) -> str:
    return "" if element is None else _BREAK.sub(" ", "".join(element.itertext()).strip(" \t\r\n"))
