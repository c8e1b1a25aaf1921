"""What a text says of its mentions: marked in [brackets] here, with the assertion behind a bar."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.assertion import mark_assertions
from loaders.records import ASSERTIONS, Mention

SENTENCES = """
No [fever|negated], [chills|negated] or [cough|negated], but has [seizures].
She denies [chest pain|negated]. She reports [headache].
There was no [hepatomegaly|negated], [splenomegaly|negated], [jaundice|negated], [ascites|negated], [oedema|negated], \
[clubbing|negated], [cyanosis|negated], or [pallor|negated].
[Pneumonia|negated] was ruled out.
Not only [fever] but also [rash].
There is no increase in [seizures].
The [absence seizures] went on.
Her mother had [breast cancer|family] and [diabetes|family].
The mother reports that he has [seizures].
Return if he develops [fever|hypothetical] or [vomiting|hypothetical].
History of [stroke|historical], now with [headache].
Cannot rule out [pneumonia|possible].
Possible [meningitis|possible] with [neck stiffness|possible].
Without [fever|negated]; with [rash].
No family history of [breast cancer|family,negated].
No evidence of [metastasis|negated] however [ascites] is present.
Denies [nausea|negated] or [vomiting|negated] since starting [phenytoin].
No evidence of [ataxia|negated] after [warfarin].
Family history of [breast cancer|family] and takes [warfarin].
He has no [seizures|negated] and will take [valproate].
She has never before had [seizures|negated].
He has not since had [seizures|negated].
They have not noted him to have any [fevers|negated] or [chills|negated].
Negative as far as [sore throat|negated], [earache|negated], or [cough|negated].
It has not been helpful in alleviating his [pain].
It has not given him any relief from his [pain].
A man with family history of [breast cancer|family] and, from family history, [gout|family].
He presents with his [mother] for followup of [asthma].
Her parents noticed no [rash|negated] and deny [vomiting|negated].
A boy who is brought in by his parents, with [cough].
Upper respiratory [illness] with [apnea], possible [pertussis|possible].
A [rash] of the face and possible elderly [abuse|possible]; [scabies|possible] possible by the look of it.
A man with a [cough] denied [fever|negated]; [chest pain|negated] denied.
[Reflexes|negated] absent bilaterally; [ptosis], absent [reflexes|negated].
[Knee pain] in the past three months. A [fracture|historical] in the past.
Past medical history of [asthma|historical] and [gout|historical] admitted for [vomiting].
His [father] died of [mesothelioma|family] and his [mother|family] died of [gout|family].
"""


def parsed(marked: str) -> tuple[str, list[Mention]]:
    text, mentions = "", []
    for piece in re.split(r"(\[[^]]*\])", marked):
        if piece.startswith("["):
            words, _, assertion = piece[1:-1].partition("|")
            mentions.append(
                Mention(len(text), len(text) + len(words), assertion=tuple(filter(None, assertion.split(","))))
            )
            text += words
        else:
            text += piece
    return text, mentions


def marked(text: str, mentions: list[Mention]) -> list[tuple[str, tuple[str, ...]]]:
    plain = [Mention(m.start, m.end) for m in mentions]
    return [(text[m.start : m.end], m.assertion) for m in mark_assertions(text, plain)]


@pytest.mark.parametrize("sentence", SENTENCES.strip().splitlines())
def test_sentences(sentence: str) -> None:
    text, mentions = parsed(sentence)
    assert marked(text, mentions) == [(text[m.start : m.end], m.assertion) for m in mentions]


def test_each_sentence_alone_says_what_it_says_among_others() -> None:
    text, mentions = parsed(SENTENCES.strip().replace("\n", " "))
    assert marked(text, mentions) == [(text[m.start : m.end], m.assertion) for m in mentions]


def test_headings_speak_of_the_lines_below_them() -> None:
    text, mentions = parsed(
        "Past Medical History:\n[asthma|historical]\n[gout|historical]\nFamily history: [ataxia|family]\n"
        "Exam: [rash].\nDoctor: Any [cough|possible]?\nPatient: My dad had [gout|family]."
    )
    assert marked(text, mentions) == [(text[m.start : m.end], m.assertion) for m in mentions]


@given(st.text(st.sampled_from("no fever.\n: \u2028🫀א\t,;?'-"), max_size=60), st.data())
def test_mentions_are_only_marked(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    mentions = [Mention(min(a, b), max(a, b), "T") for a, b in zip(cuts[::2], cuts[1::2], strict=False) if a != b]
    found = mark_assertions(text, mentions)
    assert [(m.start, m.end, m.type) for m in found] == [(m.start, m.end, m.type) for m in mentions]
    assert all(m.assertion == tuple(sorted(set(m.assertion) & set(ASSERTIONS))) for m in found)
