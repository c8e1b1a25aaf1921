"""MeSH XML: an invented descriptor, supplementary and qualifier file, damaged ones, and any mutation of them."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kg
from loaders import InputError
from loaders.mesh import read_mesh
from loaders.ontology import detect_format
from loaders.options import Options
from loaders.tables import Account

HEAD = '<?xml version="1.0"?>\n<!DOCTYPE {root} SYSTEM "https://example.org/nlm{kind}recordset_20260101.dtd">\n'


def concept(ui: str, name: str, *terms: str, preferred: bool = False, inside: str = "") -> str:
    strings = "".join(
        f'<Term IsPermutedTermYN="N"><TermUI>T1</TermUI><String>{t}</String></Term>' for t in (name, *terms)
    )
    return (
        f'<Concept PreferredConceptYN="{"Y" if preferred else "N"}"><ConceptUI>{ui}</ConceptUI>'
        f"<ConceptName><String>{name}</String></ConceptName>{inside}<TermList>{strings}</TermList></Concept>"
    )


def relation(name: str, first: str, second: str) -> str:
    return (
        f'<ConceptRelationList><ConceptRelation RelationName="{name}"><Concept1UI>{first}</Concept1UI>'
        f"<Concept2UI>{second}</Concept2UI></ConceptRelation></ConceptRelationList>"
    )


def descriptor(ui: str, name: str, inside: str = "", trees: str = "") -> str:
    numbers = "".join(f"<TreeNumber>{number}</TreeNumber>" for number in trees.split())
    return (
        f'<DescriptorRecord DescriptorClass="1"><DescriptorUI>{ui}</DescriptorUI>'
        f"<DescriptorName><String>{name}</String></DescriptorName>"
        f"<TreeNumberList>{numbers}</TreeNumberList>{inside}</DescriptorRecord>\n"
    )


def descriptors(*records: str) -> str:
    inside = "".join(records)
    head = HEAD.format(root="DescriptorRecordSet", kind="descriptor")
    return f'{head}<DescriptorRecordSet LanguageCode="eng">\n{inside}</DescriptorRecordSet>\n'


FEVER = descriptor(
    "D000002",
    "Fever",
    "<Annotation>index it</Annotation><SeeRelatedList><SeeRelatedDescriptor><DescriptorReferredTo>"
    "<DescriptorUI>D000001</DescriptorUI></DescriptorReferredTo></SeeRelatedDescriptor></SeeRelatedList><ConceptList>"
    + concept(
        "M1",
        "Fever",
        "Pyrexia &amp; \u2028co",
        "Fever",
        preferred=True,
        inside="<ScopeNote>Hot.\n    </ScopeNote>" + relation("NRW", "M1", "M2"),
    )
    + concept("M2", "Low fever", inside="<ScopeNote>Less hot.</ScopeNote>")
    + concept("M3", "Heat", inside=relation("NRW", "M3", "M1"))
    + concept("M4", "Chills", inside=relation("REL", "M1", "M4"))
    + "</ConceptList>",
    trees="C01.100 F03.5 C01.200",
)
DESCRIPTORS = descriptors(
    descriptor("D000001", "Signs", trees="C01 F03"),
    FEVER,
    descriptor(
        "D000003",
        "Coolin",
        "<PharmacologicalActionList><PharmacologicalAction><DescriptorReferredTo><DescriptorUI>D000002</DescriptorUI>"
        "</DescriptorReferredTo></PharmacologicalAction></PharmacologicalActionList><ConceptList>"
        + concept(
            "M5",
            "Coolin",
            preferred=True,
            inside="<CASN1Name>1-cool</CASN1Name><RegistryNumberList><RegistryNumber>50-78-2</RegistryNumber>"
            "<RegistryNumber>0</RegistryNumber><RegistryNumber>R16CO5Y76E</RegistryNumber></RegistryNumberList>"
            "<RelatedRegistryNumberList><RelatedRegistryNumber>493-53-8 (salt)</RelatedRegistryNumber>"
            "<RelatedRegistryNumber>EC 1.2.3.-</RelatedRegistryNumber>"
            "<RelatedRegistryNumber>odd</RelatedRegistryNumber>"
            "</RelatedRegistryNumberList>" + relation("NRW", "M5", "M6"),
        )
        + concept("M6", "Iso-coolin", inside="<RegistryNumber>txid9606</RegistryNumber>")
        + "</ConceptList>",
        trees="D02.9",
    ),
)
SUPPLEMENTS = (
    HEAD.format(root="SupplementalRecordSet", kind="supplemental")
    + """<SupplementalRecordSet LanguageCode="eng"><SupplementalRecord SCRClass="3">
<SupplementalRecordUI>C000001</SupplementalRecordUI>
<SupplementalRecordName><String>Rare fever</String></SupplementalRecordName><Note>seldom</Note>
<HeadingMappedToList>
<HeadingMappedTo><DescriptorReferredTo><DescriptorUI>*D000002</DescriptorUI></DescriptorReferredTo>
<QualifierReferredTo><QualifierUI>Q000001</QualifierUI></QualifierReferredTo></HeadingMappedTo>
<HeadingMappedTo><DescriptorReferredTo><DescriptorUI>D000001</DescriptorUI></DescriptorReferredTo></HeadingMappedTo>
</HeadingMappedToList><SourceList><Source>J Rare 1;2</Source></SourceList></SupplementalRecord>
<SupplementalRecord SCRClass="1"><SupplementalRecordUI>C000002</SupplementalRecordUI>
<SupplementalRecordName><String>coolinate</String></SupplementalRecordName></SupplementalRecord>
</SupplementalRecordSet>"""
)
QUALIFIERS = (
    HEAD.format(root="QualifierRecordSet", kind="qualifier")
    + """<QualifierRecordSet LanguageCode="fre"><QualifierRecord><QualifierUI>Q000001</QualifierUI>
<QualifierName><String>genetique</String></QualifierName><TreeNumberList><TreeNumber>Y01</TreeNumber></TreeNumberList>
</QualifierRecord></QualifierRecordSet>"""
)


def facts(rows):
    return [(row["head"][5:], row["relation"], row["tail"][5:], row["evidence"]) for row in rows["triples"]]


def test_descriptors(tables, write):
    rows, account = tables(read_mesh, write(DESCRIPTORS))
    assert (account.read, account.kept, account.release) == (3, 3, "2026")
    assert [(c["id"], c["name"], c["types"], c["definition"]) for c in rows["concepts"]] == [
        ("MESH:D000001", "Signs", ["Disease"], None),
        ("MESH:D000002", "Fever", ["Disease"], "Hot."),
        ("MESH:D000003", "Coolin", ["Chemical"], None),
    ]
    names = [(n["name"], n["kind"], n["language"]) for n in rows["names"] if n["concept_id"] == "MESH:D000002"]
    assert names == [
        ("Fever", "preferred", "en"),
        ("Pyrexia & \u2028co", "exact", "en"),
        ("Low fever", "narrow", "en"),
        ("Heat", "broad", "en"),  # stated from the other end: Fever is narrower than Heat
        ("Chills", "related", "en"),
    ]
    assert facts(rows) == [
        ("D000002", "related_to", "D000001", ""),
        ("D000003", "has_pharmacological_action", "D000002", ""),
        ("D000002", "is_a", "D000001", ""),  # from three tree numbers, once
    ]
    assert [(m["predicate"], m["object"]) for m in rows["mappings"]] == [
        ("xref", "CAS:50-78-2"),
        ("xref", "UNII:R16CO5Y76E"),
        ("skos:relatedMatch", "CAS:493-53-8"),
        ("skos:relatedMatch", "EC:1.2.3.-"),
        ("skos:narrowMatch", "NCBITaxon:9606"),
    ]
    assert ("Coolin", "1-cool", "Iso-coolin") == tuple(
        n["name"] for n in rows["names"] if n["concept_id"] == "MESH:D000003"
    )
    attributes = {(a["concept_id"][5:], a["attribute"], a["value"]) for a in rows["attributes"]}
    assert attributes == {
        ("D000001", "tree_number", "C01"),
        ("D000001", "tree_number", "F03"),
        ("D000002", "tree_number", "C01.100"),
        ("D000002", "tree_number", "C01.200"),
        ("D000002", "tree_number", "F03.5"),
        ("D000002", "definition", "Hot."),
        ("D000002", "definition", "Less hot."),
        ("D000003", "tree_number", "D02.9"),
        ("D000003", "registry_number", "odd"),
    }
    assert rows["sources"][0]["release"] == "2026"


@pytest.mark.parametrize("asked", ["annotation", "*"])
def test_further_attributes_on_request(asked, tables, write):
    rows, _ = tables(read_mesh, write(DESCRIPTORS), Options(attributes=(asked,)))
    assert "index it" in [a["value"] for a in rows["attributes"] if a["attribute"] == "annotation"]


def test_supplementary_records_and_qualifiers(tables, write):
    rows, account = tables(read_mesh, write(SUPPLEMENTS))
    assert account.kept == 2
    assert [(c["id"], c["types"]) for c in rows["concepts"]] == [
        ("MESH:C000001", ["Disease"]),
        ("MESH:C000002", ["Chemical"]),
    ]
    assert facts(rows) == [
        ("C000001", "mapped_to", "D000002", '{"major": true, "qualifier": "MESH:Q000001"}'),
        ("C000001", "mapped_to", "D000001", ""),
    ]
    assert [(a["attribute"], a["value"]) for a in rows["attributes"]] == [("note", "seldom")]
    rows, _ = tables(read_mesh, write(QUALIFIERS))
    assert rows["concepts"][0]["types"] == ["Qualifier"] and rows["names"][0]["language"] == "fr"


def test_three_files_build_one_graph(tmp_path):
    folder = tmp_path / "mesh"
    folder.mkdir()
    for name, content in (("desc", DESCRIPTORS), ("supp", SUPPLEMENTS), ("qual", QUALIFIERS)):
        (folder / f"{name}2026.xml").write_text(content)
        assert detect_format(folder / f"{name}2026.xml") == "mesh"
    report = kg.build([folder], tmp_path / "graph")
    assert report.counts["concepts"] == 6
    with kg.connect(tmp_path / "graph") as graph:
        assert graph.parents("MESH:D000002").ids == ["MESH:D000001"]
        assert graph.search("pyrexia")[0].id == "MESH:D000002"


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghij", "bcdefghijk", strict=True))
    + "]><DescriptorRecordSet><DescriptorRecord>"
    "<DescriptorUI>&k;</DescriptorUI></DescriptorRecord></DescriptorRecordSet>"
)
OUTSIDE = (
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><DescriptorRecordSet><DescriptorRecord>'
    "<DescriptorUI>&a;</DescriptorUI></DescriptorRecord></DescriptorRecordSet>"
)
ONE = descriptor("D000009", "One", trees="C01")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (DESCRIPTORS[:900], "line [0-9]+: no well-formed XML"),
        ("", "no well-formed XML"),
        (BOMB, "no well-formed XML"),
        (OUTSIDE, "no well-formed XML .undefined entity|without a MeSH id"),
        ("<html/>", "the root is <html>, not one of DescriptorRecordSet"),
        (descriptors(), "holds no record"),
        ('<?xml version="1.0" encoding="nothing-8"?><DescriptorRecordSet/>', "cannot be read as XML|no well-formed"),
        (descriptors(ONE, ONE), "record 2: a record that is there twice .'D000009'"),
        (descriptors(descriptor("X1", "One")), "record 1: a record without a MeSH id .'X1'"),
        (descriptors(descriptor("D000009", " ")), "a record without a name .'D000009'"),
        (descriptors(ONE, ONE.replace("D000009", "D000008")), "a tree number that another record has .'C01'"),
        (descriptors(ONE.replace("C01", "C01.")), "a tree number that is none .'C01.'"),
        (DESCRIPTORS.replace('ConceptYN="Y"', 'ConceptYN="N"'), "record 2: a record without a preferred concept"),
        (SUPPLEMENTS.replace("*D000002", "**"), "record 1: no MeSH id for mapped_to"),
    ],
)
def test_bad_files_are_refused_in_one_line(content, message, tables, write):
    with pytest.raises(InputError, match=message) as caught:
        tables(read_mesh, write(content))
    assert "\n" not in str(caught.value)


def test_bad_records_can_be_skipped(tables, write):
    rows, account = tables(read_mesh, write(descriptors(ONE, ONE, FEVER)), Options(skip_bad=True))
    assert account.dropped == {"malformed: a record that is there twice": 1} and account.kept == 2
    assert ("D000002", "is_a", "D000009", "") in facts(rows)


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "desc"
    filler = "<Annotation>" + "x" * 20_000 + "</Annotation>"
    path.write_text(descriptors(*(descriptor(f"D{number:06}", "a", filler) for number in range(1500))))
    tracemalloc.start()
    for _ in read_mesh(path, Account(path)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000 < path.stat().st_size


RAWS = [content.encode() for content in (DESCRIPTORS, SUPPLEMENTS, QUALIFIERS)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(RAWS),
    st.lists(
        st.tuples(
            st.integers(0, 10_000),
            st.integers(0, 30),
            st.sampled_from([b"", b"<", b"&x;", b"\0", b"\xff", b"</Concept>"]),
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_any_mutation_is_read_or_refused(tables, write, raw, edits, skip_bad):
    for at, length, new in edits:
        at %= len(raw) + 1
        raw = raw[:at] + new + raw[at + length :]
    try:
        tables(read_mesh, write(raw), Options(skip_bad=skip_bad))
    except InputError as error:
        assert "\n" not in str(error)
