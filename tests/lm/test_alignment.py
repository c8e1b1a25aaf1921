"""Characters to pieces and back: exact, at any length, with any text."""

import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm.alignment import Window, collate, paired_windows, windows, words_of
from lm.encoder import Encoder
from loaders.errors import MedgraftError

TEXTS = {
    "plain": "Nausea, vomiting and renal failure.",
    "greek": "β-blocker and TNF-α (10 μg)",
    "emoji": "pain 😀👩‍⚕️ gone 🇩🇪.",
    "combining": "nai\u0308ve cafe\u0301 patients",
    "dropped": "renal\u0000 fail\u200bure \ufffd now\u00ad",
    "line ends": "fever\r\nchills\r\n\r\n\tcough\u00a0and\u2003rash",
    "ideographs": "阿司匹林 for 头痛",
    "surrogate": "lone \ud800 surrogate",
    "spaces": "   ",
    "empty": "",
    "punctuation": "(+)-MK-801 [3H].",
}

any_text = st.text(
    st.one_of(
        st.sampled_from("abcstn (),.-+:/_[]0159\n\r\t\u00a0"),
        st.sampled_from("βαμé\u0301\u0308\u200d\u200b\ufe0f😀阿頭\u0000\ufffd\ud800İßﬁ①"),
        st.characters(),
    ),
    max_size=120,
)
relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def spans_of(group: list[Window]) -> list[tuple[int, int]]:
    return [(int(start), int(end)) for start, end in group[0].word_spans]


def covered(text: str, start: int, end: int) -> str:
    return "".join(text[start:end].split())


@pytest.mark.parametrize("name", TEXTS)
def test_every_piece_lies_in_its_word_and_owns_no_space(any_encoder: Encoder, name: str) -> None:
    text = TEXTS[name]
    for window in windows([text], any_encoder):
        for (start, end), word in zip(window.offsets, window.words, strict=True):
            assert (start == -1) == (word == -1)
            if word >= 0:
                low, high = window.word_spans[word]
                assert low <= start < end <= high
                assert not text[start].isspace() and not text[end - 1].isspace()


def test_words_are_cut_at_every_punctuation_mark(encoder: Encoder) -> None:
    text = TEXTS["punctuation"]
    assert [text[i:j] for i, j in spans_of(windows([text], encoder))] == list("(+)-") + [
        "MK",
        "-",
        "801",
        "[",
        "3H",
        "]",
        ".",
    ]


def test_a_word_keeps_its_combining_marks(encoder: Encoder) -> None:
    text = TEXTS["combining"]
    assert [text[i:j] for i, j in spans_of(windows([text], encoder))] == text.split()


def test_offsets_with_a_leading_space_are_trimmed(encoder_folder: Callable[[str], Path]) -> None:
    encoder = Encoder.load(encoder_folder("roberta"))
    text = "The boy had seizures"
    _, raw = encoder.pieces([text])[0]
    assert any(text[start] == " " for start, _ in raw)
    (window,) = windows([text], encoder)
    i, j = window.pieces_of(4, 7)
    assert (window.offsets[i, 0], window.offsets[j - 1, 1]) == (4, 7)
    assert [text[a:b] for a, b in window.word_spans] == text.split()


def test_pieces_of_a_span_stop_before_the_next_word(any_encoder: Encoder) -> None:
    text = "warfarin drowsiness aspirin"
    (window,) = windows([text], any_encoder)
    i, j = window.pieces_of(9, 19)
    assert set(window.words[i:j]) == {1}
    others = np.delete(window.words, np.s_[i:j])
    assert set(others[others >= 0]) == {0, 2}
    assert window.pieces_of(8, 9) == (0, 0) == window.pieces_of(9, 9) == window.pieces_of(90, 95)
    inside = window.pieces_of(10, 11)
    assert i <= inside[0] < inside[1] <= j
    assert window.span == (0, 27)


@relaxed
@given(text=any_text, data=st.data())
def test_span_to_pieces_to_span_covers_exactly_the_words(any_encoder: Encoder, text: str, data: st.DataObject) -> None:
    group = windows([text], any_encoder, max_pieces=any_encoder.max_pieces)
    spans = spans_of(group)
    assert spans == sorted(spans) and all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))
    if len(group) > 1 or not spans:
        return
    i = data.draw(st.integers(0, len(spans) - 1))
    j = data.draw(st.integers(i, len(spans) - 1))
    start, end = spans[i][0], spans[j][1]
    a, b = group[0].pieces_of(start, end)
    words = group[0].words[a:b]
    assert set(words[words >= 0]) == set(range(i, j + 1))
    assert words_of(group[0].word_spans, start, end) == (i, j + 1)
    # Nothing of these words lies outside the pieces, and nothing of the pieces outside these words.
    assert not np.isin(np.delete(group[0].words, np.s_[a:b]), np.arange(i, j + 1)).any()
    first, last = group[0].offsets[a:b][words >= 0][[0, -1]]
    assert covered(text, start, first[0]) == "" or _dropped(text[start : first[0]])
    assert covered(text, last[1], end) == "" or _dropped(text[last[1] : end])


def _dropped(text: str) -> bool:
    """Of the kinds that a normaliser removes: controls, formats, marks, the replacement character."""
    return all(unicodedata.category(c)[0] in "CM" or c == "\ufffd" for c in text)


@relaxed
@given(texts=st.lists(any_text, max_size=4), size=st.integers(6, 24), data=st.data())
def test_windows_lose_nothing_and_every_word_has_one_owner(
    any_encoder: Encoder, texts: list[str], size: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(0, size - 4))
    made = windows(texts, any_encoder, max_pieces=size, stride=stride)
    assert [w.document for w in made] == sorted(w.document for w in made)
    for document, (text, (ids, _)) in enumerate(zip(texts, any_encoder.pieces(texts), strict=True)):
        group = [w for w in made if w.document == document]
        assert group and all(len(w) <= size for w in group)
        bodies = [w.input_ids[1:-1].tolist() for w in group]
        assert _chain(bodies, ids.tolist())
        owned = [range(*w.owned) for w in group]
        assert [word for words in owned for word in words] == list(range(len(group[0].word_spans)))
        whole = windows([text], any_encoder, any_encoder.max_pieces, 0)[0] if len(ids) < 126 else None
        for window in group:
            assert window.owned_first.sum() == len(range(*window.owned))  # each owned word begins here
            for word in range(*window.owned):
                size_here = int((window.words == word).sum())
                if whole is not None:
                    total = int((whole.words == word).sum())
                    assert size_here == total or total > size - 2 - 1


def _chain(bodies: list[list[int]], ids: list[int]) -> bool:
    """The bodies are stretches of the ids, from the first to the last, without a gap."""
    ends = {len(bodies[0])} if ids[: len(bodies[0])] == bodies[0] else set()
    for body in bodies[1:]:
        places = [p for p in range(max(ends, default=-1) + 1) if ids[p : p + len(body)] == body]
        ends = {p + len(body) for p in places if any(p <= end < p + len(body) for end in ends)}
    return len(ids) in ends


def test_a_word_is_owned_where_it_is_furthest_from_a_cut(encoder: Encoder) -> None:
    text = " ".join(["aspirin"] * 40)  # one piece each
    group = windows([text], encoder, max_pieces=22, stride=10)
    assert [w.span[0] // 8 for w in group] == [0, 10, 20]
    assert [w.owned for w in group] == [(0, 15), (15, 25), (25, 40)]
    for word in range(40):
        rooms = []
        for number, window in enumerate(group):
            places = np.flatnonzero(window.words == word)
            if len(places):
                left = places[0] - 1 if number else 99
                right = len(window) - 2 - places[0] if number < 2 else 99
                rooms.append(min(left, right))
            else:
                rooms.append(-1)
        (owner,) = [n for n, w in enumerate(group) if w.owned[0] <= word < w.owned[1]]
        assert rooms[owner] >= max(rooms) - 1


def test_a_word_longer_than_a_window_is_kept_in_slices(encoder: Encoder) -> None:
    text = "aspirin " + "q" * 90 + " warfarin"
    group = windows([text], encoder, max_pieces=20, stride=4)
    pieces = sum(int((w.words == 1).sum()) for w in group)
    assert pieces >= 90
    assert sum(1 for w in group if w.owned[0] <= 1 < w.owned[1] and w.owned_first[w.words == 1].any()) == 1
    assert [w for w in group if 2 in range(*w.owned)][0].pieces_of(99, 107) != (0, 0)


def test_empty_and_blank_texts_give_one_window_without_words(any_encoder: Encoder) -> None:
    made = windows(["", "  \n", "\u0000"], any_encoder)
    assert [w.document for w in made] == [0, 1, 2]
    assert all(w.owned == (0, 0) or w.document == 2 for w in made)
    assert made[0].span == (0, 0) and len(made[0]) == 2
    assert windows([], any_encoder) == []


def test_a_megabyte_is_cut_in_seconds(encoder: Encoder) -> None:
    text = "The patients had nausea (5-HT) of the aspirin. " * 22_000
    began = time.perf_counter()
    made = windows([text], encoder, max_pieces=128)
    assert time.perf_counter() - began < 30
    assert made[-1].span[1] == len(text.rstrip())
    assert sum(len(range(*w.owned)) for w in made) == len(made[0].word_spans)


def test_collate_pads_and_takes_extras(encoder: Encoder) -> None:
    made = windows(["aspirin", "the patients"], encoder)
    batch = collate(made, encoder, lambda group: {"document": torch.tensor([w.document for w in group])})
    assert batch["input_ids"].tolist()[0][3] == encoder.pad_id
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["document"].tolist() == [0, 1]


def test_impossible_sizes_are_named(encoder: Encoder) -> None:
    with pytest.raises(MedgraftError, match="at most 128"):
        windows(["a"], encoder, max_pieces=512)
    with pytest.raises(MedgraftError, match="lower the stride"):
        windows(["a"], encoder, max_pieces=16, stride=14)


@relaxed
@given(first=any_text, second=any_text, room=st.integers(5, 30), stride=st.integers(0, 3))
def test_pairs_are_windows_over_the_second_text_with_the_first_before_each(
    encoder: Encoder, first: str, second: str, room: int, stride: int
) -> None:
    before = windows([first], encoder)
    if len(before) > 1 or len(before[0]) + room > encoder.max_pieces:
        return
    made = paired_windows([first], [second], encoder, len(before[0]) + room, stride)
    alone = windows([second], encoder, room + 1, stride)  # the pair's windows have one special piece less in the middle
    assert len(made) == len(alone)
    moved = len(first) + 1
    for pair, single in zip(made, alone, strict=True):
        head, tail = len(before[0]), len(single) - len(encoder.prefix_ids)
        assert pair.input_ids.tolist() == [*before[0].input_ids, *single.input_ids[-tail:]]
        assert (pair.offsets[:head] == before[0].offsets).all()
        assert (pair.offsets[head:] == np.where(single.offsets >= 0, single.offsets + moved, -1)[-tail:]).all()
        assert (pair.first[head:] == single.first[-tail:]).all()
    owned = [n for window in made for n in range(*window.owned)]
    assert owned == list(range(len(made[0].word_spans)))
    words = [(first + "\n" + second)[i:j] for i, j in spans_of(made)]
    assert words == [first[i:j] for i, j in spans_of(before)] + [second[i:j] for i, j in spans_of(alone)]


def test_a_question_that_leaves_no_room_is_named(encoder: Encoder) -> None:
    with pytest.raises(MedgraftError, match="'aspirin aspirin.* has 30 pieces, which leaves no room"):
        paired_windows(["aspirin " * 30], ["nausea"], encoder, 34, 2)
    assert paired_windows([], [], encoder) == []
