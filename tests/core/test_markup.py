"""Reply text <-> spans: round trips, every malformed case, and streams cut anywhere."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himtok_core.errors import MaskError
from himtok_core.markup import (
    BoxSpan,
    IncrementalParser,
    MaskSpan,
    PhraseSpan,
    Span,
    TextSpan,
    format_boxes,
    format_points,
    mask_run,
    parse,
    render,
)

PIECES = [
    "<ref>", "</ref>", "<box>", "</box>", "<|mt_start|>", "<|mt_end|>", "<|mt_7|>", "<|mt_1023|>",
    "<|mt_1024|>", "<|mt_07|>", "<|mt_", "<", "[[1, 2, 3, 4]]", "[[1,2,3,4],[5,6,7,8]]", "[[9, 2, 3, 4]]",
    "[1", "red apple", " ", "\n", "<b>", "&", "苹果",
    mask_run([1, 2, 3]), mask_run(range(32)), format_boxes([(0, 0, 1000, 1000)]),
]
# Random characters hardly ever make a tag, so texts are put together from pieces of markup, whole and broken.
TEXTS = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3))).map("".join))


@given(TEXTS)
def test_rendering_what_was_parsed_gives_the_text(text: str) -> None:
    assert render(parse(text)) == text


@given(TEXTS, st.data())
def test_any_split_ends_with_the_spans_of_the_whole(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parser, fed = IncrementalParser(), ""
    for start, end in zip([0, *cuts], [*cuts, len(text)]):
        fed += text[start:end]
        spans = parser.feed(text[start:end])
        assert render(spans) == fed
        assert all(span.complete for span in spans[:-1])
    assert parser.close() == parse(text)


@given(TEXTS)
def test_feeding_single_characters_never_takes_a_decided_span_back(text: str) -> None:
    parser, decided = IncrementalParser(), []
    whole = parse(text)
    for character in text:
        spans = list(parser.feed(character))
        # All but the last two (words, then the beginning of a tag) can no longer change.
        decided = spans[:-2]
        assert decided == list(whole[:len(decided)])
    assert parser.close() == whole
    assert all(span.complete for span in whole)


def test_a_whole_reply() -> None:
    text = (
        f"Sure, <ref> red apple </ref> is at {mask_run([7, 0, 1023])} in <box>[[10,20,300,400]]</box>, "
        f"and <ref>cups</ref> at <box> [ [1.5, 2, 3, 4] , [5, 6, 7, 8] ] </box>"
        f"{mask_run([5])}{mask_run(range(32))}."
    )
    spans = parse(text)
    assert [type(span) for span in spans] == [
        TextSpan, PhraseSpan, TextSpan, MaskSpan, TextSpan, BoxSpan, TextSpan,
        PhraseSpan, TextSpan, BoxSpan, MaskSpan, MaskSpan, TextSpan,
    ]
    assert not any(span.problem for span in spans)
    assert spans[1].label == "red apple" and spans[1].raw == "<ref> red apple </ref>"
    assert spans[3].tokens == (7, 0, 1023) and spans[3].label == "red apple"
    assert spans[5].boxes == ((10, 20, 300, 400),) and spans[5].label == "red apple"
    assert spans[9].boxes == ((1.5, 2, 3, 4), (5, 6, 7, 8)) and spans[9].label == "cups"
    assert spans[10].tokens == (5,) and spans[11].tokens == tuple(range(32)) and spans[11].label == "cups"


def test_a_mask_without_a_phrase_has_no_label() -> None:
    assert parse(mask_run([1]))[0].label == ""


def test_a_text_without_markup_is_one_span() -> None:
    text = "1 < 2, <b>&amp;</b> <img> <|im_end|>"
    assert parse(text) == (TextSpan(raw=text),)
    assert parse("") == ()


def run_text(ids: object) -> str:
    return "<|mt_start|>" + "".join(f"<|mt_{k}|>" for k in ids) + "<|mt_end|>"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("<|mt_start|><|mt_1|><|mt_2|>", "cut off.* tokens so far: 2"),
        ("<|mt_start|>", "cut off.* tokens so far: 0"),
        ("<|mt_start|><|mt_end|>", "no tokens"),
        (run_text(range(33)), "33 tokens, more than 32"),
        (run_text([1, 1024]), "unknown token 1024, ids go from 0 to 1023"),
        (run_text(["007"]), "unknown token 007"),
        (run_text(["9" * 6000]), "unknown token 999999999999..."),
        ("<|mt_7|>", "stands alone"),
        ("<|mt_end|>", "stands alone"),
        ("</ref>", "stands alone"),
        ("</box>", "stands alone"),
        ("<ref>apple", "<ref> is not closed"),
        ("<ref> </ref>", "no phrase"),
        ("<box>[[1, 2, 3, 4]]", "<box> is not closed"),
        ("<box>[[300, 2, 30, 4]]</box>", r"\[300, 2, 30, 4\] are swapped"),
        ("<box>[[1, 5, 30, 4]]</box>", "swapped"),
        ("<box>[[1, 2, 3, 1001]]</box>", "leaves the scale from 0 to 1000"),
        ("<box>[[-1, 2, 3, 4]]</box>", "leaves the scale"),
        (f"<box>[[0, 0, 1, {'9' * 6000}]]</box>", "leaves the scale"),
        ("<box>[[1, 2, 3, 4], [5, 6, 7, 2]]</box>", r"\[5, 6, 7, 2\] are swapped"),
        ("<box>[[1, 2, 3]]</box>", "not written as"),
        ("<box>[1, 2, 3, 4]</box>", "not written as"),
        ("<box>[[1, 2, 3, 4] [1, 2, 3, 4]]</box>", "not written as"),
        ("<box>[[1, 2, 3, x]]</box>", "not written as"),
        ("<box></box>", "not written as"),
    ],
)
def test_malformed_markup_stays_as_text_with_a_problem(raw: str, problem: str) -> None:
    (span,) = parse(raw)
    assert type(span) is TextSpan and span.raw == raw
    assert re.search(problem, span.problem)
    # Between words it has the same problem, and what follows is read as if nothing had happened.
    before, broken, *after = parse(f"See {raw}{mask_run([3])} end.")
    assert before.raw == "See " and before.problem is None
    assert broken.problem == span.problem and broken.raw == raw
    assert [type(span) for span in after] == [MaskSpan, TextSpan]


def test_a_run_that_goes_on_with_words_is_cut_off_there() -> None:
    broken, words, good = parse("<|mt_start|><|mt_1|> and more" + mask_run([2]))
    assert broken.raw == "<|mt_start|><|mt_1|>" and "cut off" in broken.problem
    assert words == TextSpan(raw=" and more")
    assert good.tokens == (2,)


def test_an_unclosed_phrase_labels_nothing() -> None:
    assert parse("<ref>cat</ref><ref>dog" + mask_run([1]))[-1].label == "cat"


def stream(*pieces: str) -> list[tuple[Span, ...]]:
    parser = IncrementalParser()
    return [parser.feed(piece) for piece in pieces]


def test_a_run_is_seen_from_its_first_token() -> None:
    opened, first, half, second, ended = stream(
        "<ref>cat</ref><|mt_start|>", "<|mt_9|>", "<|mt_1", "0|>", "<|mt_end|>"
    )
    assert opened[-1] == TextSpan(raw="<|mt_start|>", complete=False)
    assert first[-1] == MaskSpan(raw="<|mt_start|><|mt_9|>", tokens=(9,), label="cat", complete=False)
    assert half[-1] == MaskSpan(raw="<|mt_start|><|mt_9|><|mt_1", tokens=(9,), label="cat", complete=False)
    assert second[-1].tokens == (9, 10) and not second[-1].complete
    assert ended[-1].tokens == (9, 10) and ended[-1].complete


def test_a_broken_run_is_seen_as_broken_before_it_ends() -> None:
    _, broken = stream("<|mt_start|><|mt_9|>", "<|mt_5000|>")
    assert isinstance(broken[-1], TextSpan) and "5000" in broken[-1].problem


def test_unfinished_phrases_boxes_and_tags_are_marked() -> None:
    states = stream("A <re", "f>", "red ap", "ple</r", "ef>", "<box>[[1, 2", ", 3, 4]]</box>")
    assert [spans[-1] for spans in states] == [
        TextSpan(raw="<re", complete=False),
        TextSpan(raw="<ref>", complete=False),
        PhraseSpan(raw="<ref>red ap", label="red ap", complete=False),
        PhraseSpan(raw="<ref>red apple</r", label="red apple", complete=False),
        PhraseSpan(raw="<ref>red apple</ref>", label="red apple"),
        TextSpan(raw="<box>[[1, 2", complete=False),
        BoxSpan(raw="<box>[[1, 2, 3, 4]]</box>", boxes=((1, 2, 3, 4),), label="red apple"),
    ]


def test_a_cut_off_run_is_text_once_the_stream_is_closed() -> None:
    parser = IncrementalParser()
    assert isinstance(parser.feed("<|mt_start|><|mt_9|>")[-1], MaskSpan)
    (span,) = parser.close()
    assert isinstance(span, TextSpan) and "cut off" in span.problem


@given(st.lists(st.integers(0, 1023), min_size=1, max_size=32))
def test_runs_are_written_as_they_are_read(tokens: list[int]) -> None:
    (span,) = parse(mask_run(tokens))
    assert span.tokens == tuple(tokens)


@pytest.mark.parametrize("tokens", [[], [0] * 33, [-1], [1024], [1.0], ["3"]])
def test_no_run_is_written_that_could_not_be_read(tokens: list) -> None:
    with pytest.raises(MaskError):
        mask_run(tokens)


def test_boxes_and_points_are_written_on_the_scale() -> None:
    assert format_boxes([(1, 2.4, 3.6, 1000)]) == "<box>[[1, 2, 4, 1000]]</box>"
    assert format_points([(0, 999.6)]) == "[[0, 1000]]"
    nan = float("nan")
    for boxes in ([], [(1, 2, 3)], [(3, 2, 1, 4)], [(0, 0, 0, 1001)], [(0, 0, 0, nan)], ["abcd"], [5]):
        with pytest.raises(MaskError):
            format_boxes(boxes)
