"""The tabular list of ICD-10-CM, invented and real."""

import pytest

from loaders import InputError
from loaders.icd10cm import other_forms, read_icd10cm
from loaders.options import Options

LIST = """<?xml version="1.0" encoding="utf-8"?>
<ICD10CM.tabular><version>2026</version>
<chapter><name>1</name><desc>Infections (A00-B99)</desc>
 <sectionIndex><sectionRef first="A00" last="A09" id="A00-A09">not a section</sectionRef></sectionIndex>
 <section id="A00-A09"><desc>Intestinal diseases (A00-A09)</desc>
  <diag><name>A00</name><desc>Cholera &amp; more</desc>
   <inclusionTerm><note>Blue death</note><note>Any plague</note></inclusionTerm>
   <includes><note>all that is described</note><note>blue fever</note></includes>
   <excludes1><note>carrier (Z22)</note></excludes1>
   <codeFirst><note>cause</note></codeFirst>
   <sevenChrDef><extension char="A">initial encounter</extension></sevenChrDef>
   <diag placeholder="true"><name>A00.0</name><desc>Classical</desc>
    <includes><note>cholera (classical)</note><note>any condition classifiable to A01</note></includes></diag>
  </diag>
 </section>
</chapter></ICD10CM.tabular>
"""


def test_a_list(tables, write):
    rows, account = tables(read_icd10cm, write(LIST))
    assert account.kept == 4 and account.release == "2026"
    assert {row["id"]: row["name"] for row in rows["concepts"]} == {
        "ICD10CM:chapter-1": "Infections (A00-B99)",
        "ICD10CM:A00-A09": "Intestinal diseases",
        "ICD10CM:A00": "Cholera & more",
        "ICD10CM:A00.0": "Classical",
    }
    assert {(row["head"], row["tail"]) for row in rows["triples"]} == {
        ("ICD10CM:A00.0", "ICD10CM:A00"),
        ("ICD10CM:A00", "ICD10CM:A00-A09"),
        ("ICD10CM:A00-A09", "ICD10CM:chapter-1"),
    }
    assert [(row["concept_id"][8:], row["attribute"], row["value"]) for row in rows["attributes"]] == [
        ("A00.0", "includes", "cholera (classical)"),
        ("A00.0", "includes", "any condition classifiable to A01"),
        ("A00.0", "placeholder", "true"),
        ("A00.0", "seventh_character", "A: initial encounter"),  # of the code above
        ("A00", "includes", "all that is described"),
        ("A00", "includes", "blue fever"),
        ("A00", "excludes1", "carrier (Z22)"),
        ("A00", "code_first", "cause"),
        ("A00", "seventh_character", "A: initial encounter"),
    ]
    assert [row["name"] for row in rows["names"] if row["kind"] == "related"] == [
        "cholera (classical)",
        "cholera",
        "Blue death",
        "Any plague",
        "blue fever",
        "Infections",
    ]


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("Essential (primary) hypertension", ["Essential hypertension"]),
        ("Hypertension (arterial) (benign) (systemic)", ["Hypertension"]),
        ("Separation of muscle (nontraumatic), shoulder", ["Separation of muscle, shoulder"]),
        ("Fibromuscular hyperplasia (of) renal artery", ["Fibromuscular hyperplasia renal artery"]),
        ("Seizure(s) (convulsive) NOS", ["Seizure NOS"]),
        ("Stress fracture, right finger(s)", ["Stress fracture, right finger"]),
        ("Rubella [German measles]", ["Rubella", "German measles"]),
        ("Refractory anemia with excess of blasts [RAEB]", ["Refractory anemia with excess of blasts", "RAEB"]),
        ("Inconclusive laboratory evidence of human virus [HV]", ["Inconclusive laboratory evidence of human virus"]),
        ("Other complication of respirator [ventilator]", ["Other complication of respirator"]),
        ("Dizziness and giddiness", ["Dizziness", "Giddiness"]),
        ("Nausea with vomiting, unspecified", []),
        ("(A)", []),
    ],
)
def test_what_a_name_leaves_open_are_names_too(name, forms):
    assert other_forms(name, title=True) == forms


def test_a_code_below_keeps_its_name_for_itself(tables, write):
    """Nausea is R11.0, vomiting R11.1, unspecified or not; the code above them is both."""
    below = "".join(
        f"<diag><name>A00.{n}</name><desc>{name}</desc></diag>"
        for n, name in ((1, "Nausea"), (2, "Vomiting, unspecified"))
    )
    both = LIST.replace("Cholera &amp; more", "Nausea and vomiting").replace(
        "  </diag>\n </section>", below + "</diag></section>"
    )
    rows, _ = tables(read_icd10cm, write(both))
    assert not [r for r in rows["names"] if r["concept_id"] == "ICD10CM:A00" and r["name"] in ("Nausea", "Vomiting")]
    rows, _ = tables(read_icd10cm, write(LIST.replace("Cholera &amp; more", "Nausea and vomiting")))
    assert [
        r["name"] for r in rows["names"] if r["concept_id"] == "ICD10CM:A00" and r["name"] in ("Nausea", "Vomiting")
    ]


def test_only_a_title_of_two_words_names_either():
    assert not other_forms("Pins and needles", title=False)
    assert not other_forms("Acute pain and chronic pain", title=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LIST.replace("</section>", ""), "line 16: no well-formed XML"),
        (LIST[:300], "no well-formed XML"),
        (LIST.replace("<name>A00.0</name>", ""), "a diag without a code"),
        (LIST.replace("A00.0", "A00"), "a diag that is there twice"),
        ("<ICD10CM.tabular/>", "holds no chapter and no code"),
        (LIST.replace("utf-8", "nothing-8"), "cannot be read as XML|no well-formed XML"),
        (
            '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
            + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghij", "bcdefghijk", strict=True))
            + "]><ICD10CM.tabular><version>&k;</version></ICD10CM.tabular>",
            "defines entities",
        ),
        (
            LIST.replace("<ICD10CM", "<!--" + "x" * 65_480 + "--><!DOCTYPE x [<!ENTITY a 'b'>]><ICD10CM", 1),
            "defines entities",
        ),
        (
            LIST.replace("<ICD10CM", "<!DOCTYPE x SYSTEM 'other.dtd'><ICD10CM", 1).replace("Blue", "&blue;"),
            "line 7: no w",
        ),
    ],
)
def test_bad_xml_is_refused_in_one_line(content, message, tables, write):
    with pytest.raises(InputError, match=message) as caught:
        tables(read_icd10cm, write(content))
    assert "\n" not in str(caught.value)


def test_bad_codes_can_be_skipped(tables, write):
    _, account = tables(read_icd10cm, write(LIST.replace("<name>A00.0</name>", "")), Options(skip_bad=True))
    assert account.dropped == {"malformed: a diag without a code": 1} and account.kept == 3


def test_the_published_counts(data, tables):
    rows, account = tables(read_icd10cm, data("graph/icd10cm/icd10c-tabular-April-1-2026.xml.gz"))
    types = [row["types"][0] for row in rows["concepts"]]
    assert (types.count("Code"), types.count("Section"), types.count("Chapter")) == (46_881, 297, 22)
    assert sum(row["attribute"] == "placeholder" for row in rows["attributes"]) == 246
    codes = {row["id"] for row, type_ in zip(rows["concepts"], types, strict=True) if type_ == "Code"}
    assert sum(len(code) == len("ICD10CM:A00") for code in codes) == 1_918
    assert len(codes - {row["tail"] for row in rows["triples"]}) == 36_343
    assert len({row["id"] for row in rows["concepts"]}) == 46_881 + 297 + 22 == account.kept
    seventh = {row["concept_id"] for row in rows["attributes"] if row["attribute"] == "seventh_character"}
    assert {"ICD10CM:E08.32", "ICD10CM:E08.321", "ICD10CM:S72.001"} <= seventh and "ICD10CM:A00.0" not in seventh


def test_the_nearest_table_of_seventh_characters_counts(tables, write):
    own = '<sevenChrDef><extension char="S">sequela</extension><note>late effect</note></sevenChrDef>'
    rows, _ = tables(read_icd10cm, write(LIST.replace("<desc>Classical</desc>", f"<desc>Classical</desc>{own}")))
    found = [(row["concept_id"], row["value"]) for row in rows["attributes"] if row["attribute"] == "seventh_character"]
    assert found == [
        ("ICD10CM:A00.0", "S: sequela"),
        ("ICD10CM:A00.0", "S: late effect"),
        ("ICD10CM:A00", "A: initial encounter"),
    ]
