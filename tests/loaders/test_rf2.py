"""SNOMED CT releases: what is active, which names are preferred, which relationships count, what replaced what."""

import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kg
from loaders import InputError, MedgraftError
from loaders.options import Options
from loaders.rf2 import is_rf2_delta, read_rf2, read_rf2_delta
from loaders.tables import Account

COLUMNS = {
    "sct2_Concept_{}_INT_20250101": "id effectiveTime active moduleId definitionStatusId",
    "sct2_Description_{}-en_INT_20250101": "id effectiveTime active moduleId conceptId languageCode typeId term "
    "caseSignificanceId",
    "sct2_Relationship_{}_INT_20250101": "id effectiveTime active moduleId sourceId destinationId relationshipGroup "
    "typeId characteristicTypeId modifierId",
    "der2_cRefset_Language{}-en_INT_20250101": "id effectiveTime active moduleId refsetId referencedComponentId "
    "acceptabilityId",
    "der2_cRefset_Association{}_INT_20250101": "id effectiveTime active moduleId refsetId referencedComponentId "
    "targetComponentId",
}
FSN, SYNONYM = "900000000000003001", "900000000000013009"
INFERRED, STATED = "900000000000011006", "900000000000010007"
US, GB = "900000000000509007", "900000000000508004"
PREFERRED, ACCEPTABLE = "900000000000548007", "900000000000549004"
IS_A, SITE = "116680003", "363698007"


def concept(id, active=1, time=20200101):
    return f"{id}\t{time}\t{active}\tm\td"


def description(id, of, term, type=SYNONYM, active=1, time=20200101):
    return f"{id}\t{time}\t{active}\tm\t{of}\ten\t{type}\t{term}\tc"


def relationship(id, a, b, type=IS_A, group=0, characteristic=INFERRED, active=1, time=20200101):
    return f"{id}\t{time}\t{active}\tm\t{a}\t{b}\t{group}\t{type}\t{characteristic}\tx"


def member(id, refset, of, value, active=1, time=20200101):
    return f"{id}\t{time}\t{active}\tm\t{refset}\t{of}\t{value}"


CONCEPTS = [concept(100001), concept(100002), concept(100003, active=0), concept(SITE), concept(IS_A)]
DESCRIPTIONS = [
    description(200001, 100001, "Disorder of heart (disorder)", FSN),
    description(200002, 100001, "Heart disease"),
    description(200003, 100001, "Cardiopathy"),
    description(200004, 100001, "Old name", active=0),
    description(200005, 100002, "Heart (body structure)", FSN),
    description(200006, SITE, "Finding site (attribute)", FSN),
    description(200007, 100003, "Gone (disorder)", FSN),
]
LANGUAGE = [
    member("u1", GB, 200003, PREFERRED),
    member("u2", US, 200002, PREFERRED),
    member("u3", US, 200003, ACCEPTABLE),
]
RELATIONSHIPS = [
    relationship(300001, 100001, 100002, SITE, group=1),
    relationship(300002, 100001, 100003),
    relationship(300003, 100001, 100002, characteristic=STATED),
    relationship(300004, 100002, 100001, active=0),
]
ASSOCIATIONS = [member("u4", "900000000000526001", 100003, 100001)]


@pytest.fixture
def release(tmp_path):
    def write(kind="Snapshot", parts=(CONCEPTS, DESCRIPTIONS, RELATIONSHIPS, LANGUAGE, ASSOCIATIONS), end="\r\n"):
        folder = tmp_path / "release" / kind / "Terminology"
        folder.mkdir(parents=True)
        for (name, columns), rows in zip(COLUMNS.items(), parts, strict=True):
            lines = ["\t".join(columns.split()), *rows]
            (folder / f"{name.format(kind)}.txt").write_bytes("".join(line + end for line in lines).encode())
        return tmp_path / "release"

    return write


def check(graph):
    heart = graph.concept("SNOMEDCT:100001")
    assert (heart.name, heart.types) == ("Heart disease", ("disorder",))
    assert set(heart.aliases) == {"Cardiopathy", "Disorder of heart (disorder)"}
    assert graph.concept("SNOMEDCT:100002").name == "Heart"  # no synonym: the name without its tag
    (fact,) = graph.triples()
    assert tuple(fact) == ("SNOMEDCT:100001", "finding_site", "SNOMEDCT:100002")
    assert fact.evidence == ('{"group": 1}',)
    assert graph.concept("SNOMEDCT:100003").id == "SNOMEDCT:100001"  # replaced


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_snapshot(release, tmp_path, end):
    report = kg.build(release(end=end), tmp_path / "graph")
    with kg.connect(tmp_path / "graph") as graph:
        check(graph)
    dropped = {entry["name"].split("_")[1]: entry["dropped"] for entry in report.inputs}
    assert dropped["Relationship"] == {
        "inactive": 1,
        "of another characteristic type": 1,
        "destinationId is not an active concept": 1,
    }


def test_full_is_reduced_to_its_latest_rows_whatever_their_order(release, tmp_path):
    earlier = [
        [concept(100003, time=20100101), concept(100002, active=0, time=20100101)],
        [description(200002, 100001, "Earlier name", time=20100101)],
        [
            relationship(300004, 100002, 100001, time=20100101),
            relationship(300001, 100001, 100002, SITE, 1, active=0, time=20100101),
        ],
        [member("u2", US, 200002, ACCEPTABLE, time=20100101)],
        [],
    ]
    now = (CONCEPTS, DESCRIPTIONS, RELATIONSHIPS, LANGUAGE, ASSOCIATIONS)
    kg.build(release("Full", [b + a for a, b in zip(earlier, now, strict=True)]), tmp_path / "graph")
    with kg.connect(tmp_path / "graph") as graph:
        check(graph)


def test_a_zip_archive_is_read_in_place(release, tmp_path):
    folder = release()
    with zipfile.ZipFile(tmp_path / "release.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*.txt"):
            archive.write(path, path.relative_to(tmp_path))
    kg.build(tmp_path / "release.zip", tmp_path / "graph")
    with kg.connect(tmp_path / "graph") as graph:
        check(graph)


def test_stated_relationships_and_languages(release, tables):
    folder = release()
    rows, _ = tables(read_rf2, folder, Options(stated=True))
    assert [(row["head"], row["relation"]) for row in rows["triples"]] == [("SNOMEDCT:100001", "is_a")]
    rows, account = tables(read_rf2, folder, Options(languages=("fr",)))
    assert {row["id"]: row["name"] for row in rows["concepts"]}["SNOMEDCT:100001"] == "Disorder of heart"
    assert sum(part.dropped["a language that was not asked for"] for part in account.parts) == 2


def test_what_is_no_whole_release_is_refused(release, tables):
    folder = release("Delta")
    with pytest.raises(
        MedgraftError, match="a Delta, which is no whole graph; build from the Snapshot or the Full"
    ) as e:
        tables(read_rf2, folder)
    assert "medgraft update GRAPH DELTA" in str(e.value)
    with pytest.raises(MedgraftError, match="no release type 'monthly'; choose one of snapshot, full, delta"):
        tables(read_rf2, folder, Options(release_type="monthly"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (relationship(300009, "x", 100001), "line 6: sourceId is not an SCTID"),
        (relationship(300009, 100001, 100002, active=2), "line 6: active is neither 0 nor 1"),
        (relationship(300009, 100001, 100002, time="later"), "line 6: effectiveTime is not a date"),
        ("one\ttwo", "line 6: 2 fields where the header has 10"),
    ],
)
def test_bad_rows_are_named_or_counted(row, message, release, tables):
    folder = release(parts=(CONCEPTS, DESCRIPTIONS, [*RELATIONSHIPS, row], LANGUAGE, ASSOCIATIONS))
    with pytest.raises(InputError, match=message):
        tables(read_rf2, folder)
    _, account = tables(read_rf2, folder, Options(skip_bad=True))
    assert sum(n for part in account.parts for reason, n in part.dropped.items() if "malformed" in reason) == 1


def test_the_published_counts_of_the_test_release(data, tables):
    folder = data("graph/snomed_rf2_dummy")
    rows, account = tables(read_rf2, folder)
    read = {part.path.name.split("_")[1]: part for part in account.parts}
    assert {name: part.read for name, part in read.items()} == {
        "Concept": 103,
        "Description": 329,
        "Relationship": 134,
        "StatedRelationship": 123,
        "TextDefinition": 0,
        "cRefset": 323,
        "sRefset": 1,
    }
    active = {name: part.read - part.dropped["inactive"] for name, part in read.items()}
    assert (active["Description"], active["Relationship"], active["StatedRelationship"]) == (267, 117, 119)
    assert active["cRefset"] == 261 and len(rows["concepts"]) == 101
    _, account = tables(read_rf2, folder, Options(release_type="full"))
    assert sorted(part.read for part in account.parts) == [0, 1, 113, 135, 159, 370, 401]


# More kinds of files, Delta

EXTRA = {
    "definition": ("sct2_TextDefinition_{}-en_INT_20250101", COLUMNS["sct2_Description_{}-en_INT_20250101"]),
    "value": (
        "sct2_RelationshipConcreteValues_{}_INT_20250101",
        "id effectiveTime active moduleId sourceId value relationshipGroup typeId characteristicTypeId modifierId",
    ),
    "axiom": (
        "sct2_sRefset_OWLExpression{}_INT_20250101",
        "id effectiveTime active moduleId refsetId referencedComponentId owlExpression",
    ),
    "why": (
        "der2_cRefset_AttributeValue{}_INT_20250101",
        "id effectiveTime active moduleId refsetId referencedComponentId valueId",
    ),
    "simple": (
        "der2_sRefset_SimpleMap{}_INT_20250101",
        "id effectiveTime active moduleId refsetId referencedComponentId mapTarget",
    ),
    "extended": (
        "der2_iisssccRefset_ExtendedMap{}_INT_20250101",
        "id effectiveTime active moduleId refsetId referencedComponentId mapGroup mapPriority mapRule mapAdvice "
        "mapTarget correlationId mapCategoryId",
    ),
    "simple_refset": (
        "der2_Refset_Simple{}_INT_20250101",
        "id effectiveTime active moduleId refsetId referencedComponentId",
    ),
}
FILES = dict(zip(("concept", "description", "relationship", "language", "association"), COLUMNS.items(), strict=True))
FILES |= EXTRA
SNAPSHOT = {
    "concept": CONCEPTS,
    "description": DESCRIPTIONS,
    "relationship": RELATIONSHIPS,
    "language": LANGUAGE,
    "association": ASSOCIATIONS,
}
DEFINITION = "900000000000550004"


def write(folder, kind="Snapshot", **rows):
    """A release with these rows; a file that is not named is not there."""
    for content, lines in rows.items():
        name, columns = FILES[content]
        path = folder / kind / "Terminology" / f"{name.format(kind)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in ["\t".join(columns.split()), *lines]), encoding="utf-8")
    return folder


def content_of(batches):
    """What a reader yields, sorted, by table, state included; and its state as Arrow tables."""
    rows, state = defaultdict(list), defaultdict(list)
    for table, batch in batches:
        rows[table] += map(repr, batch.to_pylist())
        if table.startswith("state:"):
            state[table.removeprefix("state:")].append(batch)
    tables = {name: pa.Table.from_batches(found) for name, found in state.items()}
    return {table: sorted(found) for table, found in rows.items()}, tables


def write_state(folder, tables):
    folder.mkdir()
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def test_definitions_values_maps_reasons_and_what_is_not_read(tmp_path, tables):
    more = [
        description(200010, IS_A, "Is a (attribute)", FSN),
        description(200011, 100001, "A heart that is ill", DEFINITION),
    ]
    folder = write(
        tmp_path,
        **{**SNAPSHOT, "description": DESCRIPTIONS + more[:1]},
        definition=more[1:],
        value=[relationship(400001, 100001, '"5 mg"', SITE), relationship(400002, 100003, "#5", SITE)],
        axiom=[member("u5", 1, 100001, "SubClassOf(:1 :2)")],
        why=[member("u6", "900000000000489007", 100003, "900000000000482003"), member("u7", 999999, 100003, 999999)],
        simple=[member("u8", "900000000000497000", 100001, "X123.")],
        extended=[
            member("u9", "447562003", 100001, "1\t2\tTRUE\tALWAYS I51\tI51.9\t447561005\t447637006"),
            member("v1", "447562003", 100002, "1\t1\tTRUE\tNONE\t\t447556008\t447638001"),
            member("v2", "6011000124106", 100001, "1\t1\tTRUE\tA\tI51.9\t447557004\t447637006"),
        ],
        simple_refset=[member("v3", 999999, 100001, "").rstrip("\t")],
    )
    rows, account = tables(read_rf2, folder)
    concept = next(row for row in rows["concepts"] if row["id"] == "SNOMEDCT:100001")
    assert concept["definition"] == "A heart that is ill"
    assert {(row["concept_id"], row["attribute"], row["value"]) for row in rows["attributes"]} == {
        ("SNOMEDCT:100001", "definition", "A heart that is ill"),
        ("SNOMEDCT:100001", "finding_site", "5 mg"),
        ("SNOMEDCT:100001", "fully_specified_name", "Disorder of heart (disorder)"),
        ("SNOMEDCT:100002", "fully_specified_name", "Heart (body structure)"),
        (f"SNOMEDCT:{SITE}", "fully_specified_name", "Finding site (attribute)"),
        (f"SNOMEDCT:{IS_A}", "fully_specified_name", "Is a (attribute)"),
    }
    assert {(row["predicate"], row["object"], row["evidence"]) for row in rows["mappings"]} == {
        ("xref", "CTV3:X123.", ""),
        ("skos:relatedMatch", "ICD10:I51.9", '{"group": "1", "priority": "2", "rule": "TRUE"}'),
        ("skos:exactMatch", "ICD10CM:I51.9", '{"group": "1", "priority": "1", "rule": "TRUE"}'),
    }
    assert [tuple(row.values()) for row in rows["retired"]] == [
        ("SNOMEDCT:100003", "SNOMEDCT:100001", "inactive (duplicate): replaced by SNOMEDCT:100001")
    ]
    dropped = {part.path.name.split("_I")[0]: dict(part.dropped) for part in account.parts}
    assert dropped["sct2_sRefset_OWLExpressionSnapshot"] == {"OWL axiom, not read": 1}
    assert dropped["der2_Refset_SimpleSnapshot"] == {"row of a reference set or file that is not read": 1}
    assert dropped["der2_cRefset_AttributeValueSnapshot"] == {"an attribute that is not read": 1}
    assert dropped["der2_iisssccRefset_ExtendedMapSnapshot"] == {"a map to no code": 1}
    assert dropped["sct2_RelationshipConcreteValues_Snapshot"] == {"sourceId is not an active concept": 1}


def test_several_successors_are_told_and_none_is_chosen(tmp_path, tables):
    same = [member(f"u{to}", "900000000000527005", 100003, to) for to in (100001, 100002)]
    maybe = [member("v1", "900000000000523009", 100003, 100002), member("v2", "900000000000523009", 100001, 100002)]
    rows, account = tables(read_rf2, write(tmp_path, **{**SNAPSHOT, "association": same + maybe}))
    (gone,) = rows["retired"]
    assert gone["successor"] is None and gone["reason"] == (
        "inactive: possibly equivalent to SNOMEDCT:100002; same as SNOMEDCT:100001; same as SNOMEDCT:100002"
    )
    assert sum(part.dropped["of what is no retired concept"] for part in account.parts) == 1


def test_axioms_alone_are_refused(tmp_path, tables):
    axiom = [member("u5", 1, 100001, "SubClassOf(:1 :2)")]
    without = {name: rows for name, rows in SNAPSHOT.items() if name != "relationship"}
    with pytest.raises(InputError, match="has only OWL axioms, which are not read; add the file of relationships"):
        tables(read_rf2, write(tmp_path / "a", **without, axiom=axiom))
    with pytest.raises(InputError, match="has only OWL axioms, which are not read; add the file of relationships"):
        tables(read_rf2, write(tmp_path / "b", **without, relationship=[], axiom=axiom))
    with pytest.raises(InputError, match="has no relationship file"):
        tables(read_rf2, write(tmp_path / "c", **without))
    inferred = [relationship(300001, 100001, 100002)]
    with pytest.raises(InputError, match="states its relationships as OWL axioms, which are not read; ask for the inf"):
        folder = write(tmp_path / "d", **without, relationship=inferred, axiom=axiom)
        tables(read_rf2, folder, Options(stated=True))


def test_preferred_terms_by_language(tmp_path, tables):
    spanish = [description(200020, 100001, "cardiopat\u00eda").replace("\ten\t", "\tes\t")]
    folder = write(
        tmp_path,
        **{
            **SNAPSHOT,
            "description": DESCRIPTIONS + spanish,
            "language": [*LANGUAGE, member("u9", "450828004", 200020, PREFERRED)],
        },
    )
    rows, _ = tables(read_rf2, folder)
    mine = [row for row in rows["names"] if row["concept_id"] == "SNOMEDCT:100001"]
    assert {(row["language"], row["name"]) for row in mine if row["kind"] == "preferred"} == {
        ("en", "Heart disease"),
        ("es", "cardiopat\u00eda"),
    }
    rows, _ = tables(read_rf2, folder, Options(languages=("es",)))
    assert {row["id"]: row["name"] for row in rows["concepts"]}["SNOMEDCT:100001"] == "cardiopat\u00eda"
    assert {row["relation"] for row in rows["triples"]} == {"finding_site"}  # called in English all the same


def test_two_relations_of_one_name_stay_apart(tmp_path, tables):
    twins = [description(200030 + n, id, "Finding site (attribute)", FSN) for n, id in enumerate((100005, 100006))]
    rows, _ = tables(
        read_rf2,
        write(
            tmp_path,
            **{
                **SNAPSHOT,
                "concept": [*CONCEPTS, concept(100005), concept(100006)],
                "description": DESCRIPTIONS + twins,
                "relationship": [relationship(300000 + n, 100001, 100002, n) for n in (100005, 100006)],
            },
        ),
    )
    assert {row["relation"] for row in rows["triples"]} == {"finding_site_100005", "finding_site_100006"}


# Random small releases: what is read from Full, or from Snapshot and Delta, is what a Snapshot of it all gives.

IDS = st.sampled_from(range(100001, 100006))
ACTIVE = st.sampled_from([1, 1, 1, 0])
TIMES = st.sampled_from([20190101, 20200101, 20210101])
ROWS = {
    "concept": st.builds(concept, IDS, ACTIVE, TIMES),
    "description": st.builds(
        description,
        st.sampled_from(range(200001, 200010)),
        IDS,
        st.sampled_from(["Heart", "Heart (disorder)", "NA", '"', "Site (attribute)"]),
        st.sampled_from([FSN, SYNONYM, DEFINITION]),
        ACTIVE,
        TIMES,
    ),
    "relationship": st.builds(
        relationship,
        st.sampled_from(range(300001, 300010)),
        IDS,
        IDS,
        st.sampled_from([IS_A, 100001, 100002]),
        st.sampled_from([0, 1]),
        st.sampled_from([INFERRED, STATED]),
        ACTIVE,
        TIMES,
    ),
    "language": st.builds(
        member,
        st.sampled_from("abcdef"),
        st.sampled_from([US, GB]),
        st.sampled_from(range(200001, 200010)),
        st.sampled_from([PREFERRED, ACCEPTABLE]),
        ACTIVE,
        TIMES,
    ),
    "association": st.builds(
        member, st.sampled_from("abc"), st.sampled_from(["900000000000526001", "900000000000523009"]), IDS, IDS, ACTIVE
    ),
}


def some(least=0):
    return st.fixed_dictionaries({name: st.lists(rows, min_size=least, max_size=9) for name, rows in ROWS.items()})


def by_id(rows):
    """The last row of each id."""
    return {row.split("\t")[0]: row for row in rows}


RANDOM = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@RANDOM
@given(some(least=1), some(), st.booleans())
def test_a_delta_over_a_snapshot_is_the_snapshot_of_both(earlier, delta, stated):
    # In a Delta itself the latest row of an id counts, the last where times are equal.
    newest = {name: by_id(sorted(rows, key=lambda row: row.split("\t")[1])) for name, rows in delta.items()}
    both = {name: [*(by_id(earlier[name]) | newest[name]).values()] for name in ROWS}
    options = Options(stated=stated)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = write(folder / "before", **{name: [*by_id(rows).values()] for name, rows in earlier.items()})
        _, state = content_of(read_rf2(before, Account(before), options))
        change = write(folder / "change", "Delta", **delta)
        account = Account(change)
        kept = write_state(folder / "state", state)
        assert is_rf2_delta(change, options) and not is_rf2_delta(before, options)
        found, _ = content_of(read_rf2_delta(change, account, options, kept))
        after = write(folder / "after", **both)
        assert found == content_of(read_rf2(after, Account(after), options))[0]
        for part in account.parts:
            assert part.read == part.kept + sum(part.dropped.values())
        assert sum(part.read for part in account.parts) == sum(map(len, delta.values()))


@RANDOM
@given(some(least=1))
def test_full_is_the_snapshot_of_its_latest_rows(rows):
    latest = {name: [*by_id(sorted(all_, key=lambda row: row.split("\t")[1])).values()] for name, all_ in rows.items()}
    with tempfile.TemporaryDirectory() as name:
        full, snapshot = write(Path(name) / "a", "Full", **rows), write(Path(name) / "b", **latest)
        account = Account(full)
        assert content_of(read_rf2(full, account))[0] == content_of(read_rf2(snapshot, Account(snapshot)))[0]
        for part in account.parts:
            assert part.read == part.kept + sum(part.dropped.values())


def test_a_delta_needs_a_graph_of_a_release(tmp_path):
    change = write(tmp_path / "change", "Delta", concept=[concept(100001)])
    with pytest.raises(MedgraftError, match="holds no SNOMED CT release to apply a Delta to; build the graph from one"):
        list(read_rf2_delta(change, Account(change), Options(), tmp_path / "state"))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "rf2_concept.parquet").write_bytes(b"no table")
    with pytest.raises(MedgraftError, match="rf2_concept.parquet cannot be read"):
        list(read_rf2_delta(change, Account(change), Options(), tmp_path / "state"))
    whole = write(tmp_path / "whole", **SNAPSHOT)
    with pytest.raises(MedgraftError, match="has no Delta files"):
        list(read_rf2_delta(whole, Account(whole), Options(), tmp_path / "state"))


def test_the_delta_of_the_test_release(data, tmp_path):
    folder = data("graph/snomed_rf2_dummy/RF2Release")
    report = kg.build(folder / "Snapshot", tmp_path / "graph", stated=True)
    kept = {entry["name"].split("_")[1]: entry["kept"] for entry in report.inputs}
    assert kept["Concept"] == 101 and kept["StatedRelationship"] == 119
    assert is_rf2_delta(folder / "Delta") and not is_rf2_delta(folder)
    assert is_rf2_delta(folder, Options(release_type="delta"))
    account = Account(folder)
    rows, _ = content_of(read_rf2_delta(folder, account, Options(stated=True), tmp_path / "graph" / "state"))
    assert {part.path.name.split("_")[1]: part.read for part in account.parts} == {
        "Concept": 1,
        "Description": 1,
        "Relationship": 0,
        "StatedRelationship": 1,
        "TextDefinition": 0,
        "cRefset": 0,
        "sRefset": 0,
    }
    assert account.release == "20180831" and len(rows["concepts"]) == 101
    assert any("131148009" in row and '"group": 1' in row and "50960005" in row for row in rows["triples"])


def test_the_quirks_of_the_test_release(data, tables):
    folder = data("graph/snomed_rf2_dummy")
    rows, account = tables(read_rf2, folder)
    nameless = [row for row in rows["concepts"] if not row["types"]]
    assert [row["name"] for row in nameless] == [row["id"] for row in nameless] and len(nameless) == 1
    assert account.release == "20180731"
    kept = {part.path.name.split("_")[1]: part.kept for part in account.parts}
    # 4 of 267 active descriptions are of retired concepts; 1 of 117 active relationships is a stated one.
    assert (kept["Concept"], kept["Description"], kept["Relationship"]) == (101, 263, 116)
    assert (kept["StatedRelationship"], kept["cRefset"], kept["sRefset"]) == (0, 261, 0)
    _, account = tables(read_rf2, folder, Options(release_type="full"))
    kept = {part.path.name.split("_")[1]: part.kept for part in account.parts}
    assert (kept["Concept"], kept["Description"], kept["Relationship"]) == (100, 263, 116)
