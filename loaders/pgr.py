"""PGR (phenotype-gene relations) tables: a sentence a row, with one gene, one phenotype and a label.

The format is that of the corpus's release (Sousa, Lamurias and Couto, NAACL 2019): tab-separated with a header, offsets
of characters in the sentence as written. The label is silver; where a last column has a curator's verdict on it (`C`
right, `I` wrong), the label is put right by it and rows with another verdict are left out.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from loaders.errors import InputError
from loaders.lines import text_lines
from loaders.records import Document, Mention, Relation

RELATION = "associated_with_phenotype"
HEADER = "FILE_ID\tSENTENCE\tGENE\tPHENOTYPE\tGENE_ID\tPHENOTYPE_ID\t"
_COLUMNS = 11


def read_pgr(path: str | Path) -> Iterator[Document]:
    """The rows as documents of one sentence, with the ids `<article>-<line>`, `NCBIGene:<id>` and `HP:<id>`.

    Offsets that do not fit their name are moved to the nearest place where it stands. A name that its sentence does not
    have, as in five rows of the release, gets no mention; the row's label stays.

    Raises:
        InputError: another format, a row with too few fields, an unknown label.
    """
    path = Path(path)
    lines = text_lines(path)
    number, header = next(lines, (0, ""))
    if not header.startswith(HEADER):
        raise InputError(path, number or None, "no PGR table; its header begins with FILE_ID, SENTENCE, GENE")
    verdicts = len(header.split("\t")) > _COLUMNS
    for number, line in lines:
        fields = line.split("\t")
        if len(fields) < _COLUMNS + verdicts:
            raise InputError(path, number, f"{len(fields)} fields where {_COLUMNS + verdicts} are expected")
        verdict = fields[_COLUMNS].strip() if verdicts else "C"
        if verdict in ("C", "I"):
            yield _document(path, number, fields, right=verdict == "C")


def _document(path: Path, number: int, fields: list[str], right: bool) -> Document:
    article, text, gene, phenotype, gene_id, phenotype_id = fields[:6]
    label = fields[10].strip().lower()
    if label not in ("true", "false"):
        raise InputError(path, number, f"the label is {fields[10]!r}, neither True nor False")
    ids = f"NCBIGene:{gene_id}", phenotype_id.replace("_", ":")
    named = ((gene, fields[6], "Gene", ids[0]), (phenotype, fields[8], "Phenotype", ids[1]))
    found = (_mention(text, *some) for some in named)
    mentions = sorted((m for m in found if m is not None), key=lambda m: (m.start, m.end))
    related = (label == "true") == right
    relations = (Relation(ids[0], RELATION, ids[1]),) if related else ()
    return Document(f"{article}-{number}", text, tuple(mentions), relations)


def _mention(text: str, name: str, stated: str, type: str, id: str) -> Mention | None:
    places = [match.start() for match in re.finditer(f"(?={re.escape(name)})", text)] if name else []
    if not places:
        return None
    start = min(places, key=lambda place: (abs(place - int(stated)) if stated.isdecimal() else place, place))
    return Mention(start, start + len(name), type, id)
