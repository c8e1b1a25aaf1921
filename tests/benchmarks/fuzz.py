"""Damaged files over all readers: nothing but a one-line MedgraftError may come out, and the accounts balance.

python -m tests.benchmarks.fuzz --files 10000
"""

import argparse
import gzip
import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

from loaders import Account, MedgraftError
from loaders.ontology import FORMATS
from loaders.options import make_options

DATA = Path(__file__).parent.parent / "data"
SECONDS = 20  # of computing, for one file
WAITING = 300  # seconds on the clock
PIECES = [
    b"",
    b"\t",
    b"\n",
    b"\r\n",
    b'"',
    b"|",
    b"\0",
    b"\xff",
    b"\xe2\x80\xa8",
    b"<",
    b"&",
    b"{",
    b"[",
    b"9" * 30,
    b"0/0",
]

_ATOM = "C000000{}|ENG|P|L|PF|S|Y|A{}||||MSH|PT|D{}|name {}|0|N||\n"
_REL = "C0000001|A|CUI|RO|C0000002|A|CUI|may_treat|R||MSH|MSH||Y|N||\n"
_SAB = "C1|C1|MSH_2025|MSH|MeSH|MSH|2025|||2025AA||owner||0|1|1||PT||ENG|UTF-8|Y|Y|||\n"
_ROW = "id\teffectiveTime\tactive\tmoduleId\t"
_MEMBER = f"{_ROW}refsetId\treferencedComponentId\t"


def _rf2(content: str, columns: str, rows: str, kind: str = "sct2", language: str = "") -> dict[str, str]:
    return {f"{kind}_{content}Snapshot{language}_INT_20250101.txt": f"{columns}\n{rows}\n"}


# Format -> dumps of it, each file by its name; all that a reader can read is in one of them.
SAMPLES: dict[str, list[dict[str, str]]] = {
    "umls": [
        {
            "MRCONSO.RRF": "".join(_ATOM.format(*[n] * 4) for n in (1, 2, 3)),
            "MRREL.RRF": _REL * 2 + _REL.replace("may_treat", "").replace("RO", "PAR") + _REL.replace("RO", "SIB"),
            "MRSTY.RRF": "C0000001|T047|B|Disease or Syndrome|A||\n",
            "MRDOC.RRF": "RELA|may_treat|rela_inverse|may_be_treated_by|\n",
            "MRDEF.RRF": "C0000001|A|AT||MSH|text|N||\n",
            "MRSAT.RRF": "C0000001|L|S|A|AUI|D1|AT||MN|MSH|C10|N||\n",
            "MRHIER.RRF": "C0000001|A1|1|A0|MSH|isa|A2.A3|||\n",
            "MRSAB.RRF": _SAB,
            "MRRANK.RRF": "0400|MSH|PT|N|\n",
            "MRFILES.RRF": "MRSTY.RRF|types|CUI,TUI,STN,STY,ATUI,CVF|6|1|1|\n",
            "MRCUI.RRF": "C0000009|2001AA|SY|||C0000001|Y|\nC0000008|2001AA|DEL|||||\n",
            "MERGEDCUI.RRF": "C0000007|C0000001|\n",
            "DELETEDCUI.RRF": "C0000006|gone|\n",
        }
    ],
    "rxnorm": [
        {
            "RXNCONSO.RRF": "".join(_ATOM.replace("C000000", "").format(*[n] * 4) for n in (1, 2)),
            "RXNREL.RRF": "1||CUI|RO|2||CUI|has_tradename|1||RXNORM|RXNORM|||N||\n"
            "|A1|AUI|RO||A2|AUI|tradename_of|1||RXNORM|RXNORM|||N||\n",
            "RXNSAT.RRF": "1|||1|CUI|1|AT||RXN_STRENGTH|RXNORM|1 MG|N||\n",
            "RXNSTY.RRF": "1|T109|A1|Organic Chemical|AT||\n",
            "RXNCUI.RRF": "9|2001AA|2002AA|1|1|\n",
            "RXNDOC.RRF": "RELA|has_tradename|rela_inverse|tradename_of|\n",
        }
    ],
    "rf2": [
        {
            **_rf2("Concept_", f"{_ROW}definitionStatusId", "100001\t20200101\t1\t1\t2\n100002\t20200101\t0\t1\t2"),
            **_rf2(
                "Description_",
                f"{_ROW}conceptId\tlanguageCode\ttypeId\tterm\tcaseSignificanceId",
                "200001\t20200101\t1\t1\t100001\ten\t900000000000013009\tterm\tc",
                language="-en",
            ),
            **_rf2(
                "Relationship_",
                f"{_ROW}sourceId\tdestinationId\trelationshipGroup\ttypeId\tcharacteristicTypeId\tmodifierId",
                "300001\t20200101\t1\t1\t100001\t100002\t0\t116680003\t900000000000011006\tx\n"
                "300002\t20200101\t1\t1\t100001\t100001\t1\t116680004\t900000000000011006\tx",
            ),
            **_rf2(
                "RelationshipConcreteValues_",
                f"{_ROW}sourceId\tvalue\trelationshipGroup\ttypeId\tcharacteristicTypeId\tmodifierId",
                "300003\t20200101\t1\t1\t100001\t#5\t1\t116680005\t900000000000011006\tx",
            ),
            **_rf2(
                "cRefset_Language",
                f"{_MEMBER}acceptabilityId",
                "u1\t20200101\t1\t1\t900000000000509007\t200001\t900000000000548007",
                "der2",
                "-en",
            ),
            **_rf2(
                "cRefset_Association",
                f"{_MEMBER}targetComponentId",
                "u2\t20200101\t1\t1\t900000000000526001\t100002\t100001",
                "der2",
            ),
            **_rf2(
                "iisssccRefset_ExtendedMap",
                f"{_MEMBER}mapGroup\tmapPriority\tmapRule\tmapAdvice\tmapTarget\tcorrelationId\tmapCategoryId",
                "u3\t20200101\t1\t1\t447562003\t100001\t1\t1\tTRUE\tA\tA00.0\t447557004\t4",
                "der2",
            ),
            **_rf2(
                "sRefset_OWLExpression", f"{_MEMBER}owlExpression", "u4\t20200101\t1\t1\t7\t100001\tSubClassOf(:1 :2)"
            ),
        }
    ],
    "icd10cm": [
        {
            "tabular.xml": "<ICD10CM.tabular><version>2026</version><chapter><name>1</name><desc>One</desc>"
            '<section id="A00-A09"><desc>Two (A00-A09)</desc><diag><name>A00</name><desc>Three</desc>'
            "<inclusionTerm><note>Four</note></inclusionTerm></diag></section></chapter></ICD10CM.tabular>"
        }
    ],
    "mesh": [
        {
            "desc.xml": '<DescriptorRecordSet LanguageCode="eng"><DescriptorRecord DescriptorClass="1">'
            "<DescriptorUI>D000001</DescriptorUI><DescriptorName><String>One</String></DescriptorName><TreeNumberList>"
            "<TreeNumber>C01.1</TreeNumber></TreeNumberList><ConceptList>"
            '<Concept PreferredConceptYN="Y"><ConceptUI>M1</ConceptUI><ConceptName><String>One</String></ConceptName>'
            "<TermList><Term><TermUI>T1</TermUI><String>Uno</String></Term></TermList></Concept></ConceptList>"
            "</DescriptorRecord></DescriptorRecordSet>"
        },
        {
            "supp.xml": '<SupplementalRecordSet LanguageCode="eng"><SupplementalRecord SCRClass="1">'
            "<SupplementalRecordUI>C000002</SupplementalRecordUI><SupplementalRecordName><String>Two</String>"
            "</SupplementalRecordName><HeadingMappedToList><HeadingMappedTo><DescriptorReferredTo><DescriptorUI>*D000001"
            "</DescriptorUI></DescriptorReferredTo></HeadingMappedTo></HeadingMappedToList><ConceptList>"
            '<Concept PreferredConceptYN="Y"><ConceptUI>M2</ConceptUI><ConceptName><String>Two</String></ConceptName>'
            "<RegistryNumber>0</RegistryNumber></Concept></ConceptList></SupplementalRecord></SupplementalRecordSet>"
        },
    ],
    "table": [
        {
            "kg.csv": "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,"
            "y_source\n"
            'protein_protein,ppi,0,9796,gene/protein,"PHYHIP, ""x""",NCBI,8889,56992,gene/protein,KIF15,NCBI\n'
            "disease_phenotype_negative,absent,1,1,disease,a,MONDO,2,1250,effect/phenotype,b,HPO\n"
        },
        {
            "ctd.tsv": "# Fields:\n# ChemicalName\tChemicalID\tCasRN\tDiseaseName\tDiseaseID\tDirectEvidence\t"
            "InferenceGeneSymbol\tInferenceScore\tOmimIDs\tPubMedIDs\n#\n"
            "06-Paris\tC046983\t\tNeoplasms\tMESH:D009369\ttherapeutic\t\t\t\t1|2\n"
        },
        {"edges.tsv": "source\tmetaedge\ttarget\nGene::9021\tGpBP\tBiological Process::GO:0071357\n"},
        {"nodes.tsv": "id\tname\tkind\nGene::9021\tSOCS3\tGene\nGene::1\tA1BG\tGene\n"},
    ],
    "obo": [{"x.obo": (DATA / "mini.obo").read_text()}],
    "obographs": [{"x.json": (DATA / "mini.json").read_text()}],
    "owl": [{"x.owl": (DATA / "mini.owl").read_text()}],
    "sssom": [{"x.sssom.tsv": (DATA / "mini.sssom.tsv").read_text()}],
    "hpoa": [{"x.hpoa": (DATA / "mini.hpoa").read_text()}],
    "genes_to_phenotype": [{"x.txt": (DATA / "mini_genes_to_phenotype.txt").read_text()}],
    "kgx": [
        {"x.tsv": (DATA / "mini_kgx.tsv").read_text()},
        {
            "x.jsonl": '{"id": "A:1", "category": ["biolink:Disease"], "name": "one", "synonym": ["uno", "eins"]}\n'
            '{"id": "A:2", "category": ["biolink:Disease"], "name": null, "xref": ["B:2"], "n": 1.5}\n'
        },
        {"e.jsonl": '{"subject": "A:1", "predicate": "biolink:treats", "object": "A:2", "negated": true}\n'},
    ],
}
# What is read beyond the defaults, so that each file of a sample is.
_OPTIONS: dict[str, dict[str, object]] = {
    "umls": {"attributes": ("*",), "hierarchy": True},
    "rxnorm": {"attributes": ("*",)},
    "mesh": {"attributes": ("*",)},
}


def run(files: int, seed: int) -> dict[str, object]:
    """Read so many damaged dumps, each with and without `skip_bad`; raises AssertionError at the first wrong answer."""
    assert SAMPLES.keys() == FORMATS.keys(), f"no sample for {sorted(FORMATS.keys() - SAMPLES.keys())}"
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for kind in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(kind, _too_long)
    with tempfile.TemporaryDirectory(prefix="medgraft-fuzz-") as work:
        for number in range(files):
            format = sorted(SAMPLES)[number % len(SAMPLES)]
            folder = Path(work) / "dump"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            sample = chance.choice(SAMPLES[format])
            damaged = chance.choice(sorted(sample))
            for name, text in sample.items():
                raw = text.encode()
                (folder / name).write_bytes(pack(damage(raw, chance), chance) if name == damaged else raw)
            dump = folder if FORMATS[format].is_folder else next(folder.iterdir())
            for skip_bad in (False, True):
                _set_timers(SECONDS, WAITING)
                outcomes[_read(format, dump, skip_bad, f"dump {number} of seed {seed}")] += 1
                _set_timers(0, 0)
    return {"files": files, "readings": sum(outcomes.values()), **dict(outcomes)}


def damage(raw: bytes, chance: random.Random) -> bytes:
    """One to four changes: bytes put in, taken out, doubled, lines swapped, the end cut off."""
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(raw) + 1), chance.randrange(1, 30)
        kind = chance.randrange(6)
        if kind == 0:
            raw = raw[:at] + chance.choice(PIECES) + raw[at:]
        elif kind == 1:
            raw = raw[:at] + raw[at + length :]
        elif kind == 2:
            raw = raw[:at] + raw[at : at + length] * 2 + raw[at + length :]
        elif kind == 3:
            lines = raw.split(b"\n")
            chance.shuffle(lines)
            raw = b"\n".join(lines)
        elif kind == 4:
            raw = raw[:at] if chance.random() < 0.2 else raw
        else:
            raw = raw[:at] + chance.randbytes(1) + raw[at + 1 :]
    return raw


def pack(raw: bytes, chance: random.Random) -> bytes:
    """Now and then packed by gzip, and the packing damaged now and then."""
    if chance.random() < 0.9:
        return raw
    packed = gzip.compress(raw)
    return damage(packed, chance) if chance.random() < 0.5 else packed


def _read(format: str, dump: Path, skip_bad: bool, what: str) -> str:
    account = Account(dump)
    try:
        for _ in FORMATS[format].read(dump, account, make_options(skip_bad=skip_bad, **_OPTIONS.get(format, {}))):
            pass
    except MedgraftError as error:
        assert "\n" not in str(error), f"{what} ({format}): an error of several lines: {error}"
        return "refused"
    except Exception as error:
        raise AssertionError(f"{what} ({format}, skip_bad={skip_bad}): {type(error).__name__}: {error}") from error
    for part in account.files():
        assert part.read == part.kept + sum(part.dropped.values()), f"{what} ({format}): {part}"
    return "read"


def _set_timers(computing: int, waiting: int) -> None:
    signal.setitimer(signal.ITIMER_PROF, computing)
    signal.alarm(waiting)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {SECONDS} s of computing, or {WAITING} s in all, for one file")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.stdout.write(json.dumps(run(given.files, given.seed), indent=2) + "\n")
