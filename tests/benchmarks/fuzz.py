"""Damaged files over all readers: nothing but a one-line MedgraftError may come out, and the accounts balance.

python -m tests.benchmarks.fuzz --files 10000
"""

import argparse
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
from loaders.options import Options

DATA = Path(__file__).parent.parent / "data"
SECONDS = 20  # for one file
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
_RF2 = "sct2_{}_Snapshot{}_INT_20250101.txt"
SAMPLES: dict[str, dict[str, str]] = {
    "umls": {
        "MRCONSO.RRF": "".join(_ATOM.format(*[n] * 4) for n in (1, 2, 3)),
        "MRREL.RRF": _REL * 2,
        "MRSTY.RRF": "C0000001|T047|B|Disease or Syndrome|A||\n",
        "MRDOC.RRF": "RELA|may_treat|rela_inverse|may_be_treated_by|\n",
        "MRDEF.RRF": "C0000001|A|AT||MSH|text|N||\n",
        "MRCUI.RRF": "C0000009|2001AA|SY|||C0000001|Y|\n",
    },
    "rxnorm": {
        "RXNCONSO.RRF": "".join(_ATOM.replace("C000000", "").format(*[n] * 4) for n in (1, 2)),
        "RXNREL.RRF": "1||CUI|RO|2||CUI|has_tradename|1||RXNORM|RXNORM|||N||\n",
    },
    "rf2": {
        _RF2.format("Concept", ""): "id\teffectiveTime\tactive\tmoduleId\tdefinitionStatusId\n"
        "100001\t20200101\t1\tm\td\n100002\t20200101\t1\tm\td\n",
        _RF2.format("Description", "-en"): "id\teffectiveTime\tactive\tmoduleId\tconceptId\tlanguageCode\ttypeId\t"
        "term\tcaseSignificanceId\n200001\t20200101\t1\tm\t100001\ten\t900000000000013009\tterm\tc\n",
        _RF2.format("Relationship", ""): "id\teffectiveTime\tactive\tmoduleId\tsourceId\tdestinationId\t"
        "relationshipGroup\ttypeId\tcharacteristicTypeId\tmodifierId\n"
        "300001\t20200101\t1\tm\t100001\t100002\t0\t116680003\t900000000000011006\tx\n",
    },
    "icd10cm": {
        "tabular.xml": "<ICD10CM.tabular><version>2026</version><chapter><name>1</name><desc>One</desc>"
        '<section id="A00-A09"><desc>Two (A00-A09)</desc><diag><name>A00</name><desc>Three</desc>'
        "<inclusionTerm><note>Four</note></inclusionTerm></diag></section></chapter></ICD10CM.tabular>"
    },
    "mesh": {
        "desc.xml": '<DescriptorRecordSet LanguageCode="eng"><DescriptorRecord DescriptorClass="1">'
        "<DescriptorUI>D000001</DescriptorUI><DescriptorName><String>One</String></DescriptorName><TreeNumberList>"
        "<TreeNumber>C01.1</TreeNumber></TreeNumberList><ConceptList>"
        '<Concept PreferredConceptYN="Y"><ConceptUI>M1</ConceptUI><ConceptName><String>One</String></ConceptName>'
        "<TermList><Term><TermUI>T1</TermUI><String>Uno</String></Term></TermList></Concept></ConceptList>"
        "</DescriptorRecord></DescriptorRecordSet>"
    },
    "table": {"kg.csv": "x_id,x_name,x_type,relation,y_id,y_name,y_type\n"},
    "obo": {"x.obo": (DATA / "mini.obo").read_text()},
    "obographs": {"x.json": (DATA / "mini.json").read_text()},
    "owl": {"x.owl": (DATA / "mini.owl").read_text()},
    "sssom": {"x.sssom.tsv": (DATA / "mini.sssom.tsv").read_text()},
    "hpoa": {"x.hpoa": (DATA / "mini.hpoa").read_text()},
    "genes_to_phenotype": {"x.txt": (DATA / "mini_genes_to_phenotype.txt").read_text()},
    "kgx": {"x.tsv": (DATA / "mini_kgx.tsv").read_text()},
}


def run(files: int, seed: int) -> dict[str, object]:
    """Read so many damaged dumps, each with and without `skip_bad`; raises AssertionError at the first wrong answer."""
    assert SAMPLES.keys() == FORMATS.keys(), f"no sample for {sorted(FORMATS.keys() - SAMPLES.keys())}"
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory(prefix="medgraft-fuzz-") as work:
        for number in range(files):
            format = sorted(SAMPLES)[number % len(SAMPLES)]
            folder = Path(work) / "dump"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            damaged = chance.choice(sorted(SAMPLES[format]))
            for name, text in SAMPLES[format].items():
                raw = text.encode()
                (folder / name).write_bytes(damage(raw, chance) if name == damaged else raw)
            dump = folder if FORMATS[format].is_folder else next(folder.iterdir())
            for skip_bad in (False, True):
                signal.alarm(SECONDS)
                outcomes[_read(format, dump, skip_bad, f"dump {number} of seed {seed}")] += 1
                signal.alarm(0)
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


def _read(format: str, dump: Path, skip_bad: bool, what: str) -> str:
    account = Account(dump)
    try:
        for _ in FORMATS[format].read(dump, account, Options(skip_bad=skip_bad)):
            pass
    except MedgraftError as error:
        assert "\n" not in str(error), f"{what} ({format}): an error of several lines: {error}"
        return "refused"
    except Exception as error:
        raise AssertionError(f"{what} ({format}, skip_bad={skip_bad}): {type(error).__name__}: {error}") from error
    for part in account.files():
        assert part.read == part.kept + sum(part.dropped.values()), f"{what} ({format}): {part}"
    return "read"


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {SECONDS} s for one file")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.stdout.write(json.dumps(run(given.files, given.seed), indent=2) + "\n")
