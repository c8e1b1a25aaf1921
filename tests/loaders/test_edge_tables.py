"""Tables of nodes and edges: columns named by the user, layouts told by their headers, faults, mutations."""

import csv
import io
import json

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kg
from loaders import InputError, MedgraftError
from loaders.edge_tables import LAYOUTS, read_table
from loaders.ontology import detect_format
from loaders.options import Options

PRIMEKG = '''relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source
indication,indication,1,DB01,drug,"Coolin, raw",DrugBank,2,13924_12592,disease,fever,MONDO_grouped
indication,indication,2,13924_12592,disease,fever,MONDO_grouped,1,DB01,drug,"Coolin, raw",DrugBank
disease_phenotype_negative,phenotype absent,3,5002,disease,NA,MONDO,4,1250,effect/phenotype,"a ""fit""",HPO
disease_phenotype_negative,phenotype absent,4,1250,effect/phenotype,"a ""fit""",HPO,3,5002,disease,NA,MONDO
protein_protein,ppi,5,9796,gene/protein,PHYHIP,NCBI,6,7918,gene/protein,GPANK1,NCBI
'''
HETIONET_NODES = "id\tname\tkind\nGene::801\tCALM1\tGene\nGene::7428\tVHL\tGene\nDisease::DOID:1\tmalady\tDisease\n"
HETIONET_EDGES = "source\tmetaedge\ttarget\nGene::801\tGiG\tGene::7428\nDisease::DOID:1\tDaG\tGene::801\n"
CTD = """# Report created: today
#
# Fields:
# ChemicalName,ChemicalID,CasRN,DiseaseName,DiseaseID,DirectEvidence,InferenceGeneSymbol,InferenceScore,PubMedIDs
#
"Coolin, raw",C000001,50-78-2,Fever,MESH:D000002,therapeutic,,,1|2
"Coolin, raw",C000001,50-78-2,Gout,OMIM:1,,ABC,3.5,3
"""
CTD_CHEMICALS = '''# Fields:
# ChemicalName,ChemicalID,CasRN,Definition,ParentIDs,TreeNumbers,ParentTreeNumbers,Synonyms
Coolin,MESH:C000001,50-78-2,"cools, mostly",MESH:D01|MESH:D02,D02.1,D02,"cool|""raw"""
'''


def facts(rows, table="triples"):
    return [(row["head"], row["relation"], row["tail"]) for row in rows[table]]


def test_columns_named_by_the_user(tables, write):
    path = write('drug,"gene id",note,weight\nDB:1,672,"odd, ""this""\nline",0.5\nDB:2,HGNC:5,,\n')
    columns = {"head": "drug", "relation": "=targets", "tail": "gene id", "tail_prefix": "=NCBIGene", "note": "note"}
    rows, account = tables(read_table, path, Options(columns={**columns, "strength": "weight"}))
    assert account.kept == 2 and not rows["concepts"]
    assert facts(rows) == [("DB:1", "targets", "NCBIGene:672"), ("DB:2", "targets", "HGNC:5")]
    assert json.loads(rows["triples"][0]["evidence"]) == {"note": 'odd, "this"\nline', "strength": "0.5"}
    assert rows["triples"][1]["evidence"] == "" and rows["triples"][0]["source"] == "input"


def test_edges_with_names_types_sources_and_negations(tables, write):
    path = write(
        "head\trelation\ttail\tname\tkind\tby\tno\n"
        'A:1\tr\tB:1\tfirst "one"\tX|Y\tus\t\nA:1\tr\tB:2\tother\tX|Y\t\tTrue\nA:1\tr\tB:3\tother\tZ\tus\t0\n'
    )
    columns = {"head_name": "name", "head_type": "kind", "source": "by", "negated": "no", "tail_name": "tail"}
    rows, _ = tables(read_table, path, Options(columns=columns))
    assert facts(rows) == [("A:1", "r", "B:1"), ("A:1", "r", "B:3")]
    assert facts(rows, "exclusions") == [("A:1", "r", "B:2")]
    assert [row["source"] for row in rows["triples"] + rows["exclusions"]] == ["us", "us", "input"]
    heads = [(c["name"], c["types"]) for c in rows["concepts"] if c["id"] == "A:1"]
    assert heads == [('first "one"', ["X", "Y"]), ("other", ["Z"])]
    assert [(n["name"], n["kind"]) for n in rows["names"] if n["concept_id"] == "A:1"] == [
        ('first "one"', "preferred"),
        ("other", "exact"),
    ]
    assert {c["id"] for c in rows["concepts"]} == {"A:1", "B:1", "B:2", "B:3"}


def test_nodes(tables, write):
    path = write(
        'code,label,kind,what,also,up,elsewhere,colour\n1250,NA,A|B,"what, it is",x||"y",7,MSH:D1|UMLS:C0000005,red\n'
        "HP:7,,,,,,,\n".replace('x||"y"', '"x||""y"""')
    )
    columns = {"id": "code", "name": "label", "type": "kind", "definition": "what", "synonyms": "also", "prefix": "=HP"}
    columns |= {"parents": "up", "xrefs": "elsewhere", "colour": "colour", "language": "=de"}
    rows, account = tables(read_table, path, Options(columns=columns))
    assert account.kept == 2
    assert [tuple(c.values()) for c in rows["concepts"]] == [
        ("HP:0001250", "NA", ["A", "B"], "what, it is", "input"),
        ("HP:7", "HP:7", [], None, "input"),
    ]
    assert [(n["name"], n["kind"], n["language"]) for n in rows["names"]] == [
        ("NA", "preferred", "de"),
        ("x", "exact", "de"),
        ('"y"', "exact", "de"),
    ]
    assert facts(rows) == [("HP:0001250", "is_a", "HP:0000007")]
    assert [m["object"] for m in rows["mappings"]] == ["MESH:D1", "C0000005"]
    assert [(a["attribute"], a["value"]) for a in rows["attributes"]] == [("colour", "red")]


def test_one_set_of_columns_serves_a_file_of_nodes_and_one_of_edges(tmp_path):
    (tmp_path / "n.csv").write_text("code,label\n1,one\n2,two\n")
    (tmp_path / "e.csv").write_text("from,to,pmid\n1,2,77\n")
    columns = {"id": "code", "name": "label", "prefix": "=X", "head": "from", "tail": "to", "relation": "=near"}
    columns |= {"head_prefix": "=X", "tail_prefix": "=X", "pmid": "pmid"}
    report = kg.build([tmp_path / "n.csv", tmp_path / "e.csv"], tmp_path / "graph", columns=columns)
    assert report.counts["relations"] == {"near": 1} and report.counts["concepts"] == 2
    with kg.connect(tmp_path / "graph") as graph:
        assert "77" in str(graph.relations("X:1")[0].evidence)


def test_primekg(tables, write, tmp_path):
    path = write(PRIMEKG)
    assert detect_format(path) == "table"
    rows, account = tables(read_table, path)
    assert account.kept == 5
    assert facts(rows)[0] == ("DRUGBANK:DB01", "indication", "MONDO_grouped:13924_12592")
    assert facts(rows)[-1] == ("NCBIGene:9796", "protein_protein", "NCBIGene:7918")
    assert facts(rows, "exclusions")[0] == ("MONDO:0005002", "disease_phenotype_positive", "HP:0001250")
    assert rows["triples"][0]["evidence"] == '{"display_relation": "indication"}'
    assert {(row["relation"], row["inverse"]) for row in rows["inverses"]} == {
        (name, name) for name in ("indication", "disease_phenotype_positive", "protein_protein")
    }
    assert {c["id"]: c["name"] for c in rows["concepts"]}["HP:0001250"] == 'a "fit"'
    report = kg.build([path], tmp_path / "graph")
    assert report.counts["relations"] == {"indication": 1, "protein_protein": 1}  # each edge once
    assert report.counts["exclusions"] == 1


def test_hetionet(tmp_path):
    (tmp_path / "nodes.tsv").write_text(HETIONET_NODES)
    (tmp_path / "edges.sif").write_text(HETIONET_EDGES)
    report = kg.build([tmp_path / "nodes.tsv", tmp_path / "edges.sif"], tmp_path / "graph")
    assert report.counts["relations"] == {"associated_with": 1, "interacts_with": 1}
    with kg.connect(tmp_path / "graph") as graph:
        assert graph.concept("NCBIGene:801").name == "CALM1"
        assert graph.relations("DOID:1")[0].tail == "NCBIGene:801"


def test_ctd_has_its_header_in_a_comment(tables, write):
    rows, account = tables(read_table, write(CTD))
    assert account.kept == 2
    assert facts(rows) == [
        ("MESH:C000001", "therapeutic", "MESH:D000002"),
        ("MESH:C000001", "inferred_association", "OMIM:1"),
    ]
    assert json.loads(rows["triples"][1]["evidence"]) == {"inference_gene": "ABC", "publications": "3", "score": "3.5"}
    assert rows["concepts"][0]["name"] == "Coolin, raw"
    rows, _ = tables(read_table, write(CTD_CHEMICALS))
    assert facts(rows) == [("MESH:C000001", "is_a", "MESH:D01"), ("MESH:C000001", "is_a", "MESH:D02")]
    assert [n["name"] for n in rows["names"]] == ["Coolin", "cool", '"raw"']
    assert rows["concepts"][0]["definition"] == "cools, mostly"


def test_disease_symptoms(data, tables):
    path = data("graph/obo/disease-symptom.tsv")
    assert detect_format(path) == "table"
    rows, account = tables(read_table, path)
    assert account.kept == 2222
    ends = [{row[end] for row in rows["triples"]} for end in ("head", "tail")]
    assert list(map(len, ends)) == [863, 300] and {c["id"] for c in rows["concepts"]} == set.union(*ends)


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("", {}, "has no header"),
        ("# only\n", {"head": "a"}, "which column is relation"),
        ("a,b\n1,2\n", {"head": "a", "tail": "b"}, "line 1: which column is relation. .*--column relation==CONSTANT"),
        ("a,b\n1,2\n", {}, "which column is id"),
        ("a,b\n1,2\n", {"id": "a", "name": "c"}, "line 1: no column 'c' for name; there are: a, b"),
        ("a,a\n1,2\n", {"id": "a", "name": "=x"}, "the column 'a' is there twice"),
        ("id,name\n", {}, "holds a header and no rows"),
        ("id,name\nA:1,x\n ,y\n", {}, "line 3: a node without id"),
        ('id,name\n"A:1","x\ny"\n"A\n2",y\n', {}, "line 4: a node without id"),
        ("head\trelation\ttail\nA:1\t\tA:2\n", {}, "line 2: an edge without relation"),
        ('head,relation,tail\nA:1,"r,A:2\n', {}, "line 2: a quote"),
        ("head,relation,tail\nA:1,r\n", {}, "line 2: 2 fields where the header has 3"),
    ],
)
def test_bad_tables_are_refused_in_one_line(content, columns, message, tables, write):
    with pytest.raises(InputError, match=message) as caught:
        tables(read_table, write(content), Options(columns=columns))
    assert "\n" not in str(caught.value)


def test_names_that_would_break_evidence_are_refused(tables, write):
    with pytest.raises(MedgraftError, match="cannot be the name of a column"):
        tables(read_table, write("head,relation,tail\nA,r,B\n"), Options(columns={'a"b': "tail"}))


def test_bad_rows_can_be_skipped(tables, write):
    content = 'head,relation,tail\nA:1,r,\nA:1,r,B:1\nA:2,"r" x,B:1\nA:3,r\n'
    rows, account = tables(read_table, write(content), Options(skip_bad=True))
    assert len(rows["triples"]) == 1
    assert account.dropped == {
        "malformed: an edge without tail": 1,
        "malformed: stray quote": 1,
        "malformed: wrong number of fields": 1,
    }


def test_every_layout_is_told_by_its_own_header(write):
    for layout in LAYOUTS.values():
        header = dict.fromkeys(column for column in layout.columns.values() if not column.startswith("="))
        for separator in ",\t":
            assert detect_format(write(separator.join(header) + "\n")) == "table"


VALUE = st.text(st.sampled_from('ab:|",\n \u2028é'), max_size=4) | st.sampled_from(["NA", "null", "1", "true"])
SLOW = [HealthCheck.function_scoped_fixture]


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(st.lists(st.tuples(*[VALUE] * 6), max_size=8))
def test_edges_agree_with_a_slow_reader(tables, write, given_rows):
    columns = ("head", "relation", "tail", "head_name", "negated", "note")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *given_rows])
    options = Options(skip_bad=True, columns={name: name for name in columns} | {"head_prefix": "=P"})
    triples, exclusions, names = [], [], []
    for row in csv.DictReader(io.StringIO(text.getvalue(), newline="")):
        row = {key: value.strip(" \r") for key, value in row.items()}
        head, relation, tail = (row[key] for key in columns[:3])
        if any(not value or "\n" in value for value in (head, relation, tail)):
            continue
        head = head if ":" in head else f"P:{head}"
        evidence = json.dumps({"note": row["note"]}, ensure_ascii=False) if row["note"] else ""
        negated = row["negated"] in ("1", "true")
        (exclusions if negated else triples).append((head, relation, tail, "input", evidence))
        if row["head_name"] and (head, row["head_name"]) not in names:
            names.append((head, row["head_name"]))
    try:
        rows, account = tables(read_table, write(text.getvalue()), options)
    except InputError as error:
        assert "no rows" in str(error) and not given_rows
        return
    assert account.read == len(given_rows)
    assert [tuple(row.values()) for row in rows["triples"]] == triples
    assert [tuple(row.values()) for row in rows["exclusions"]] == exclusions
    assert [(row["concept_id"], row["name"]) for row in rows["names"]] == names


RAWS = [text.encode() for text in (PRIMEKG, HETIONET_NODES, HETIONET_EDGES, CTD, CTD_CHEMICALS)]
EDITS = [b"", b'"', b",", b"\t", b"\n", b"\xff", b"\0"]
EDIT = st.tuples(st.integers(0, 2000), st.integers(0, 20), st.sampled_from(EDITS))


@settings(max_examples=250, deadline=None, suppress_health_check=SLOW)
@given(st.sampled_from(RAWS), st.lists(EDIT, min_size=1, max_size=3), st.booleans())
def test_any_mutation_is_read_or_refused(tables, write, raw, edits, skip_bad):
    for at, length, new in edits:
        at %= len(raw) + 1
        raw = raw[:at] + new + raw[at + length :]
    try:
        tables(read_table, write(raw), Options(skip_bad=skip_bad))
    except InputError as error:
        assert "\n" not in str(error)


def test_what_is_seen_in_an_earlier_block_is_not_said_again(tables, write):
    lines = [f"A:{number % 10},r,B:1,name {number % 20},{'x' * 900}" for number in range(40_000)]
    path = write("head,relation,tail,head_name,pad\n" + "\n".join(lines) + "\n")
    rows, account = tables(read_table, path, Options(columns={"head_name": "head_name"}))
    assert account.kept == 40_000 and path.stat().st_size > 2 * (1 << 24)
    assert len(rows["concepts"]) == 10 and len(rows["names"]) == 20
    kinds = pl.DataFrame(rows["names"])["kind"].value_counts().sort("kind").rows()
    assert kinds == [("exact", 10), ("preferred", 10)]
