"""The names of a graph that a linker knows, as tables without a Python object for each, and the keys that find them."""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kg.matching import alias_codes, base, content_words, is_symbol, respelled, stem, unmarked, word_code
from kg.variants import NONE, Variants, learn_variants
from loaders.errors import MedgraftError
from loaders.records import Document
from loaders.tables import NAME_KINDS, SCHEMAS

CASE_SENSITIVE_TYPES = ("Gene", "biolink:Gene")
MAX_LEARNT = 2_000_000  # names up to which word variants are learnt and written out
_NAME = ["concept_id", "name", "kind", "language", "suppressed"]
_NAMES = pa.schema([SCHEMAS["names"].field(column) for column in _NAME])
_EXACT = (NAME_KINDS.index("preferred"), NAME_KINDS.index("exact"))


@dataclass(frozen=True, slots=True)
class Keys:
    """What a `Dictionary` is made of; see there."""

    keys: NDArray[np.int64]
    rows: NDArray[np.int32]
    costs: NDArray[np.int8]
    codes: NDArray[np.int64]


def select_concepts(concepts: pa.Table, types: Collection[str] | None, keep: Collection[str] | None) -> pa.Table:
    """The concepts with one of the types, and with one of the ids; None for all. Sorted by id.

    Raises:
        MedgraftError: no concept has one of the types.
    """
    table = concepts.select(["id", "name", "types", "definition"]).sort_by("id").combine_chunks()
    wanted = None if types is None else frozenset(types)
    kept = None if keep is None else frozenset(keep)
    if wanted is None and kept is None:
        return table
    ids, types_of = table["id"].to_pylist(), table["types"].to_pylist()
    if wanted is not None:
        there = {name for of in types_of for name in of or ()}
        if absent := sorted(wanted - there):
            raise MedgraftError(f"no concept is of the type {absent[0]}; there are {', '.join(sorted(there)[:20])}")
    mask = [
        (wanted is None or not wanted.isdisjoint(t or ())) and (kept is None or i in kept)
        for i, t in zip(ids, types_of, strict=True)
    ]
    return table.filter(pa.array(mask, pa.bool_())).combine_chunks()


def alias_table(
    names: pa.Table, concepts: pa.Table, languages: Collection[str] | None, seen: Mapping[tuple[str, str], int]
) -> tuple[pa.Table, dict[str, int]]:
    """Names that are looked for, by concept and merit, and the names left out, by reason.

    Args:
        names: Of the graph.
        concepts: As `select_concepts` makes them.
        languages: Of the graph's names; None for all.
        seen: How often a corpus links a text to a concept id, by both; each is a name, too, of the kind "related".

    Returns:
        A table with the columns concept (int32, row of the concept), kind (int8, place in `NAME_KINDS`), alias,
        case_sensitive, and seen (int32, 0 for the names of the graph); and the counts.
    """
    of_graph = names.select(_NAME).cast(_NAMES)
    names = pa.concat_tables([of_graph, _corpus_names(seen)])
    place = {i: n for n, i in enumerate(concepts["id"].to_pylist())}
    sensitive = np.array([not set(CASE_SENSITIVE_TYPES).isdisjoint(t or ()) for t in concepts["types"].to_pylist()])
    spoken = None if languages is None else frozenset(languages)
    capitals = _in_capitals(of_graph["name"])
    counts: Counter[str] = Counter()
    concept, kinds, kept, exact, often = array("i"), array("b"), array("q"), array("b"), array("i")
    for row, (concept_id, name, kind, language, suppressed) in enumerate(_rows(names)):
        n = place.get(concept_id)
        if n is None:
            counts["concept not wanted"] += 1
        elif suppressed:
            counts["suppressed"] += 1
        elif spoken is not None and language not in spoken and row < len(of_graph):
            counts["other language"] += 1
        elif not alias_codes(name, as_written := bool(sensitive[n]) or is_symbol(name, capitals=capitals)):
            counts["too short, too long or only function words"] += 1
        else:
            counts["kept"] += 1
            concept.append(n)
            kinds.append(NAME_KINDS.index(kind))
            kept.append(row)
            exact.append(as_written)
            often.append(0 if row < len(of_graph) else seen[concept_id, name])
    table = pa.table(
        {
            "concept": pa.array(np.frombuffer(concept, np.int32) if concept else np.zeros(0, np.int32)),
            "kind": pa.array(np.frombuffer(kinds, np.int8) if kinds else np.zeros(0, np.int8)),
            "alias": names["name"].take(pa.array(np.array(kept, np.int64))).cast(pa.string()).combine_chunks(),
            "case_sensitive": pa.array(np.frombuffer(exact, np.int8).astype(bool) if exact else np.zeros(0, bool)),
            "seen": pa.array(np.frombuffer(often, np.int32) if often else np.zeros(0, np.int32)),
        }
    )
    order = [(column, "ascending") for column in ("concept", "kind", "alias")]
    table = table.sort_by([*order, ("seen", "descending")])
    return _distinct(table).combine_chunks(), dict(sorted(counts.items()))


def count_mentions(documents: Iterable[Document]) -> Counter[tuple[str, str]]:
    """How often each text is linked to each concept id; mentions that are NIL or name several concepts do not count."""
    return Counter(
        (mention.concept_id, mention.text_in(document.text))
        for document in documents
        for mention in document
        if mention.concept_id and "|" not in mention.concept_id
    )


def alias_keys(aliases: pa.Table, *, variants: bool) -> tuple[Keys, Variants]:
    """The keys by which the dictionary finds each name, with those of its variants if wanted.

    Args:
        aliases: As `alias_table` makes it.
        variants: Learn which words stand for one another, and look for names with such words exchanged too.
    """
    learnt = learn_variants(_exact_stems(aliases)) if variants and len(aliases) <= MAX_LEARNT else NONE
    keys, rows, costs = array("q"), array("i"), array("b")
    codes: set[int] = set()
    prefixed: list[tuple[int, str, str]] = []

    def add(row: int, cost: int, form: Sequence[int]) -> None:
        keys.append(sum(form))
        rows.append(row)
        costs.append(cost)
        codes.update(form)

    for row, (name, sensitive) in enumerate(_pairs(aliases)):
        plain = alias_codes(name, sensitive)
        add(row, 0, plain)
        if marked := unmarked(name):
            bare, cost = marked
            if known := alias_codes(bare, sensitive or is_symbol(bare)):
                add(row, cost, known)
        if not sensitive:
            prefixed += [(row, other, word) for other, word in respelled(name)]
        if learnt is NONE or sensitive or len(plain) < 2 or len(plain) > 6:
            continue
        for form, cost in learnt.of([stem(word) for word in content_words(name)]):
            add(row, cost, [word_code(word) for word in form])
    there = frozenset(codes)
    for row, other, word in prefixed:
        respelt = alias_codes(other, False)
        if respelt and (not word or word_code(stem(word)) in there or word_code("=" + base(word)) in there):
            add(row, 0, respelt)
    key = np.array(keys, np.int64)
    order = np.lexsort((np.array(rows, np.int32), np.array(costs, np.int8), key))
    return (
        Keys(
            key[order],
            np.array(rows, np.int32)[order],
            np.array(costs, np.int8)[order],
            np.array(sorted(codes), np.int64),
        ),
        learnt,
    )


def distinct_spellings(aliases: pa.Table) -> tuple[pa.Array, NDArray[np.int32]]:
    """The spellings to compare by 3-grams, sorted, and for each alias its place among them.

    Names that match case-sensitively only have none (-1): a gene symbol is spelled right or it is another word.
    """
    import pyarrow.compute as pc

    folded = pa.array((None if exact else name.casefold() for name, exact in _pairs(aliases)), pa.string())
    encoded = folded.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    place = np.where(codes < 0, -1, rank[codes] if len(rank) else -1).astype(np.int32)
    return encoded.dictionary.take(order), place


def spellings_of(aliases: pa.Table, rows: NDArray[np.int32], starts: NDArray[np.int64]) -> pa.Array:
    """The spellings again, from their aliases: those of spelling n are `rows[starts[n]:starts[n + 1]]`."""
    first = aliases["alias"].take(pa.array(rows[starts[:-1]]))
    return pa.array([name.casefold() for name in first.to_pylist()], pa.string())


def spellings_of_types(
    types: Collection[str], concepts: pa.Table, aliases: pa.Table, rows: NDArray[np.int32], starts: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Which spellings, see `spellings_of`, are names of a concept of one of the types."""
    wanted = frozenset(types)
    chosen = np.array([not wanted.isdisjoint(of or ()) for of in concepts["types"].to_pylist()], bool)
    if len(starts) < 2:
        return np.zeros(0, np.int32)
    inside = chosen[aliases["concept"].to_numpy()[rows[starts[0] :]]]
    return np.flatnonzero(np.logical_or.reduceat(inside, starts[:-1] - starts[0])).astype(np.int32)


def _in_capitals(names: pa.ChunkedArray) -> bool:
    """Whether more than half of the names of several words are written in capitals, so that these say nothing."""
    import pyarrow.compute as pc

    several = names.filter(pc.match_substring_regex(names, r"[A-Za-z].* .*[A-Za-z]"))
    return len(several) > 0 and pc.mean(pc.equal(several, pc.utf8_upper(several))).as_py() > 0.5


def _corpus_names(seen: Mapping[tuple[str, str], int]) -> pa.Table:
    rows = [(concept_id, name, "related", "", False) for concept_id, name in sorted(seen)]
    return pa.Table.from_pylist([dict(zip(_NAME, row, strict=True)) for row in rows], schema=_NAMES)


def _rows(names: pa.Table) -> Iterator[tuple[str, str, str, str, bool]]:
    for batch in names.to_batches(max_chunksize=65_536):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _pairs(aliases: pa.Table) -> Iterator[tuple[str, bool]]:
    for batch in aliases.select(["alias", "case_sensitive"]).to_batches(max_chunksize=65_536):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _exact_stems(aliases: pa.Table) -> Iterator[list[list[str]]]:
    """The stems of the preferred and exact names of each concept."""

    def rows() -> Iterator[tuple[int, int, str, bool]]:
        for batch in aliases.to_batches(max_chunksize=65_536):
            yield from zip(*(batch[c].to_pylist() for c in ("concept", "kind", "alias", "case_sensitive")), strict=True)

    for _, group in groupby(rows(), key=lambda row: row[0]):
        synonyms = [
            [stem(w) for w in content_words(name)] for _, kind, name, exact in group if kind in _EXACT and not exact
        ]
        if len(synonyms) > 1:
            yield synonyms


def _distinct(table: pa.Table) -> pa.Table:
    """Without rows that repeat the one before."""
    if len(table) < 2:
        return table
    concept, kind = table["concept"].to_numpy(), table["kind"].to_numpy()
    import pyarrow.compute as pc

    alias = table["alias"].combine_chunks()
    same = pc.equal(alias.slice(1), alias.slice(0, len(alias) - 1)).to_numpy(zero_copy_only=False)
    repeats = np.concatenate([[False], same & (concept[1:] == concept[:-1]) & (kind[1:] == kind[:-1])])
    return table.filter(pa.array(~repeats))
