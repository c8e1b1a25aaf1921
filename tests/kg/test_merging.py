"""Merging, judged by an obvious merge in Python: any rows, in any batches and ranges."""

from collections import Counter

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from kg import merging
from kg.snapshot import SCHEMAS, fingerprint
from loaders.tables import NAME_KINDS, Batch, Rows
from tests.kg.slow_graph import merged

ID = st.sampled_from(["A:1", "A:2", "A:3", "B:1", "B:ä", "C:1", "A:old", "A:older", "A:gone", " ", None])
TEXT = st.sampled_from(["Fever", "fever", "Ärger", "", " ", None, "a\u2028b"])
SOURCE = st.sampled_from(["x", "y", "Z", None])
EVIDENCE = st.sampled_from(["", "{}", '{"a": 1}', None])
RELATION = st.sampled_from(["treats", "treated_by", "same", "is_a", "", None])
FACT = st.tuples(ID, RELATION, ID, SOURCE, EVIDENCE)
ROWS = {
    "concepts": st.tuples(ID, TEXT, st.lists(st.sampled_from(["T", "U"]), max_size=2), TEXT, SOURCE),
    "names": st.tuples(ID, TEXT, st.sampled_from(NAME_KINDS), st.sampled_from(["en", ""]), SOURCE, st.booleans()),
    "triples": FACT,
    "exclusions": FACT,
    "retired": st.tuples(
        st.sampled_from(["A:old", "A:older", "A:gone", "A:1"]),
        st.sampled_from(["A:1", "B:1", "A:old", "A:404", None]),
        st.sampled_from(["merged", None]),
    ),
    "mappings": st.tuples(ID, st.sampled_from(["xref", "code", None]), TEXT, SOURCE, EVIDENCE),
    "attributes": st.tuples(ID, st.sampled_from(["note", None]), TEXT, SOURCE),
    "inverses": st.sampled_from(
        [("treats", "treated_by"), ("treated_by", "treats"), ("same", "same"), ("treats", "is_a"), ("same", None)]
    ),
}
INPUTS = st.fixed_dictionaries({table: st.lists(row, max_size=12) for table, row in ROWS.items()})


def batches(tables, size=10**6):
    rows = Rows()
    for table, values in tables.items():
        for row in values:
            rows.add(table, *row)
    for batch in rows.rest():
        for start in range(0, batch.rows.num_rows, size):
            yield Batch(batch.table, batch.rows.slice(start, size))


@settings(deadline=None, max_examples=60)
@given(INPUTS)
def test_any_rows_against_a_slow_merge(tables):
    expected, dropped, folded = slow_merge(tables)
    found, content = merged(batches(tables))
    for name, table in found.items():
        assert table.to_pylist() == expected[name], name
    for name, account in content.accounts.items():
        assert account.read == len(tables[name]) == account.kept + account.merged + account.dropped.total()
        assert account.kept == len(expected[name]) and account.dropped == dropped[name], name
        assert account.folded == folded[name]
    assert content.fingerprint == fingerprint(found)
    assert {name: content.counts[name] for name in SCHEMAS} == {name: len(rows) for name, rows in expected.items()}
    assert content.counts["types"] == Counter(t for row in expected["concepts"] for t in row["types"])
    assert content.counts["relations"] == Counter(row["relation"] for row in expected["triples"])


@settings(deadline=None, max_examples=25)
@given(INPUTS, st.integers(1, 5), st.integers(1, 5), st.sampled_from(["keep", "same_as", "merge"]))
def test_neither_batches_nor_ranges_leave_a_trace(tables, size, part, mappings):
    one, content = merged(batches(tables), mappings)
    whole, merging._PART = merging._PART, part
    try:
        other, again = merged(batches(tables, size), mappings)
    finally:
        merging._PART = whole
    assert all(table.equals(other[name]) for name, table in one.items())
    assert content == again


def test_conflicting_inverses_are_settled_by_the_first():
    facts = [("A:1", "treats", "B:1", "x", ""), ("A:1", "is_a", "C:1", "x", ""), ("B:1", "treated_by", "A:1", "y", "")]
    concepts = [(id, id, [], None, "x") for id in ("A:1", "B:1", "C:1")]
    pairs = [("treated_by", "treats"), ("treats", "is_a"), ("treats", "treated_by")]
    found, content = merged(batches({"concepts": concepts, "triples": facts, "inverses": pairs}))
    assert content.inverses == {"treated_by": "treats"}
    assert [tuple(row.values()) for row in found["triples"].to_pylist()] == [
        ("A:1", "is_a", "C:1", ["x"], []),
        ("B:1", "treated_by", "A:1", ["x", "y"], []),
    ]


def test_the_kept_name_of_a_relation_may_occur_in_no_row():
    concepts = [(id, id, [], None, "x") for id in ("A:1", "B:1")]
    facts = [("A:1", "treated_by", "B:1", "x", "")]
    tables = {"concepts": concepts, "exclusions": facts, "inverses": [("treats", "treated_by")]}
    found, _ = merged(batches(tables))
    assert [tuple(row.values()) for row in found["exclusions"].to_pylist()] == [("B:1", "treats", "A:1", ["x"], [])]


def test_nothing_at_all():
    found, content = merged([])
    assert all(table.equals(pa.table(SCHEMAS[name].empty_table())) for name, table in found.items())
    assert content.counts["types"] == {} == content.counts["relations"]


def blank(text):
    return text is None or not text.strip()


def text_key(values):
    """Null before any text, false before true."""
    return tuple((value is not None, value if value is not None else "") for value in values)


def slow_merge(tables):
    """Tables, what was dropped and what was turned round, row by row."""
    dropped = {name: Counter() for name in SCHEMAS}
    folded = Counter()
    concepts = {}
    for id, name, types, definition, source in tables["concepts"]:
        if blank(id):
            dropped["concepts"]["concept without id"] += 1
            continue
        concept = concepts.setdefault(id, {"names": [], "types": set(), "definitions": [], "sources": set()})
        concept["names"] += [] if blank(name) else [name]
        concept["types"] |= set(types)
        concept["definitions"] += [] if definition is None else [definition]
        concept["sources"] |= {source} - {None}
    retired = slow_retired(tables["retired"], concepts, dropped["retired"])
    names = slow_names(tables["names"], concepts, retired, dropped["names"])
    result = {"concepts": slow_concepts(concepts, names), "retired": retired_rows(retired)}
    result["names"] = [dict(zip(SCHEMAS["names"].names, row, strict=True)) for row in names]
    inverses = {}
    for relation, inverse in tables["inverses"]:
        if inverse is not None and not {relation, inverse} & {*inverses, *inverses.values()}:
            inverses[relation] = inverse
    for name in ("triples", "exclusions"):
        kept = []
        for fact in tables[name]:
            reason, fact, turned = slow_fact(fact, concepts, retired, inverses)
            folded[name] += turned
            if reason:
                dropped[name][reason] += 1
            else:
                kept.append(fact)
        result[name] = gathered(kept, SCHEMAS[name].names)
    for name in ("mappings", "attributes"):
        kept = []
        for id, *rest in tables[name]:
            id = successor(id, retired)
            if id not in concepts:
                dropped[name]["of an unknown concept"] += 1
            elif blank(rest[1]):
                dropped[name][f"no {SCHEMAS[name].names[2]}"] += 1
            else:
                kept.append((id, *rest))
        result[name] = gathered(kept, SCHEMAS[name].names)
    return result, dropped, folded


def slow_retired(rows, concepts, dropped):
    stated = {}
    for id, onward, reason in rows:
        if id in concepts:
            dropped["retired id is in use"] += 1
        else:
            stated.setdefault(id, []).append((onward, reason))
    retired = {}
    for id, ways in stated.items():
        ways.sort(key=lambda way: tuple((value is None, value or "") for value in way))
        successors = sorted({onward for onward, _ in ways} - {None})
        reason = next((reason for _, reason in ways if reason is not None), None)
        if len(successors) > 1:
            reason = f"{reason or ''}; several successors: {', '.join(successors)}"
        retired[id] = (successors[0] if len(successors) == 1 else None, reason)
    ends = {}
    for id in retired:
        end, seen = id, set()
        while end in retired and end not in seen:
            seen.add(end)
            end = retired[end][0]
        ends[id] = (end if end in concepts else None, retired[id][1])
    return ends


def retired_rows(retired):
    return [{"id": id, "successor": end, "reason": reason} for id, (end, reason) in sorted(retired.items())]


def successor(id, retired):
    return retired[id][0] or id if id in retired else id


def slow_names(rows, concepts, retired, dropped):
    kept = set()
    for id, name, *rest in rows:
        id = successor(id, retired)
        if blank(name):
            dropped["empty name"] += 1
        elif id not in concepts:
            dropped["name of an unknown concept"] += 1
        else:
            kept.add((id, name, *rest))
    return sorted(kept, key=text_key)


def slow_concepts(concepts, names):
    rows = []
    for id, concept in sorted(concepts.items()):
        name = concept["names"][0] if concept["names"] else id
        merits = {}
        for other, alias, kind, *_, suppressed in names:
            if other == id and not suppressed and alias != name:
                merits[alias] = min(merits.get(alias, 9), NAME_KINDS.index(kind))
        aliases = sorted(merits, key=lambda alias: (merits[alias], alias))
        definition = concept["definitions"][0] if concept["definitions"] else None
        values = (id, name, aliases, sorted(concept["types"]), definition, sorted(concept["sources"]))
        rows.append(dict(zip(SCHEMAS["concepts"].names, values, strict=True)))
    return rows


def slow_fact(fact, concepts, retired, inverses):
    """Why it is dropped or None, the fact as it is kept, whether it was turned round."""
    head, relation, tail, *rest = fact
    for end, id in (("head", head), ("tail", tail)):
        id = successor(id, retired)
        if id in retired:
            return f"{end} is retired without successor", None, False
        if id not in concepts:
            return f"{end} is not a concept", None, False
    head, tail = successor(head, retired), successor(tail, retired)
    if blank(relation):
        return "no relation", None, False
    if head == tail:
        return "head and tail are the same concept", None, False
    for kept, inverse in inverses.items():
        if (relation == inverse != kept) or (relation == kept == inverse and head > tail):
            return None, (tail, kept, head, *rest), True
    return None, (head, relation, tail, *rest), False


def gathered(rows, columns):
    facts = {}
    for *key, source, evidence in (row if len(columns) == 5 else (*row, None) for row in rows):
        sources, evidences = facts.setdefault(tuple(key), (set(), set()))
        sources |= {source} - {None}
        evidences |= set() if blank(evidence) else {evidence}
    return [
        dict(zip(columns, (*key, sorted(facts[key][0]), sorted(facts[key][1])), strict=False))
        for key in sorted(facts, key=text_key)
    ]
