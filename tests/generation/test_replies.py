import numpy as np
import pytest
import torch

from himtok_core.generation.replies import ReplyBuilder, redraw
from himtok_core.generation.transcript import Run
from himtok_core.markup import mask_run
from himtok_core.reply import Prompt, Reply, ReplyObject

SIZE = (60, 40)


class Drawer:
    """Stands in for the mask tokenizer: a run of n tokens is a map with the value n / 32 + 0.4."""

    def __init__(self):
        self.calls = []

    def __call__(self, runs):
        self.calls.append([len(run) for run in runs])
        return [np.full((4, 4), min(1.0, len(run) / 32 + 0.4), dtype=np.float32) for run in runs]


def run_of(tokens, closed=True) -> Run:
    rows = torch.eye(1024)[list(tokens)]
    return Run(list(tokens), list(rows), closed)


def whole(text, runs=(), question="Anything?", ended="end", **options) -> Reply:
    builder = ReplyBuilder(Drawer(), Prompt(question, **options), SIZE)
    builder.add(text)
    return builder.final(list(runs), ended, 100)


A, B = [1, 2, 3, 4], list(range(32))


def test_a_phrase_a_box_and_a_mask_are_one_object():
    text = f"<ref>a cat</ref> at {mask_run(A)} in <box>[[100, 200, 500, 600]]</box>."
    reply = whole(text, [run_of(A)])
    (item,) = reply.objects
    assert (item.label, item.tokens, item.complete) == ("a cat", tuple(A), True)
    assert item.box == (6, 8, 30, 24)
    assert item.mask.shape == (40, 60) and item.mask.all()
    assert item.token_probabilities.shape == (4, 1024) and (item.token_probabilities.argmax(1) == A).all()
    assert reply.text == text and reply.problems == () and reply.finished and not reply.stopped


def test_several_of_a_kind_under_one_label_stay_apart():
    boxes = "<box>[[0,0,10,10],[5,5,20,20]]</box>"
    text = f"<ref>cats</ref>{mask_run(A)}{mask_run(B)}{boxes}<ref>dog</ref>{mask_run(A)}"
    reply = whole(text, [run_of(A), run_of(B), run_of(A)])
    kinds = [(item.label, bool(item.tokens), item.box is not None) for item in reply.objects]
    assert kinds == [("cats", True, False)] * 2 + [("cats", False, True)] * 2 + [("dog", True, False)]


def test_the_question_names_what_the_reply_does_not():
    text = f"At {mask_run(A)}."
    assert whole(text, [run_of(A)], "Segment <ref>red apple</ref>.").objects[0].label == "red apple"
    assert whole(text, [run_of(A)], "Where is it?").objects[0].label == ""
    named = f"<ref>pear</ref>{mask_run(A)}"
    assert whole(named, [run_of(A)], "Segment <ref>red apple</ref>.").objects[0].label == "pear"


def test_several_phrases_of_the_question_name_as_many_objects():
    question = "Segment <ref>cup</ref> and <ref>plate</ref>."
    both = whole(f"{mask_run(A)} and {mask_run(B)}", [run_of(A), run_of(B)], question)
    assert [item.label for item in both.objects] == ["cup", "plate"]
    assert whole(f"{mask_run(A)}", [run_of(A)], question).objects[0].label == ""


def test_an_empty_mask_is_not_shown_but_told():
    builder = ReplyBuilder(
        lambda runs: [np.zeros((4, 4), np.float32)], Prompt("Segment <ref>owl</ref>."), SIZE
    )
    builder.add(mask_run(A))
    reply = builder.final([run_of(A)], "end", 100)
    assert reply.objects[0].mask is None and reply.objects[0].tokens == tuple(A)
    assert any("owl" in line and "empty" in line for line in reply.problems)


@pytest.mark.parametrize(
    ("text", "ended", "expects_mask", "problem"),
    [
        ("Nothing there.", "end", True, "without one"),
        ("", "end", False, "empty answer"),
        ("And so", "length", False, "100 new tokens"),
        ("And so", "context", False, "all that the model can read"),
        ("Look: <box>[[9, 9, 1, 1]]</box>", "end", False, "swapped"),
    ],
)
def test_what_went_wrong_is_told(text, ended, expects_mask, problem):
    reply = whole(text, ended=ended, expects_mask=expects_mask)
    assert any(problem in line for line in reply.problems), reply.problems
    assert len(reply.problems) == 1


def test_a_stop_is_no_problem_of_the_model():
    reply = whole("I", ended="stopped", expects_mask=True)
    assert reply.stopped and reply.finished and reply.problems == ()


def test_a_run_that_was_cut_off_keeps_what_came():
    text = "At " + mask_run(A).removesuffix("<|mt_end|>")
    reply = whole(text, [run_of(A, closed=False)], ended="stopped")
    (item,) = reply.objects
    assert item.tokens == tuple(A) and item.mask is not None and not item.complete
    assert any("cut off" in line and "4" in line for line in reply.problems)


def test_a_run_spelled_in_letters_has_no_mask():
    reply = whole(f"{mask_run(B)} {mask_run(A)}", [run_of(A)])
    assert [item.mask is None for item in reply.objects] == [True, False]


def test_a_growing_run_is_drawn_when_it_doubles_and_all_are_drawn_once_in_the_end():
    drawer = Drawer()
    builder = ReplyBuilder(drawer, Prompt("Segment <ref>owl</ref>."), SIZE)
    first, second = Run(), Run()
    builder.add("<|mt_start|>")
    assert builder.partial([first]).objects == ()
    seen = []
    for run, tokens in ((first, B), (second, A + [7])):
        if run is second:
            builder.add("<|mt_start|>")
        for token in tokens:
            run.tokens.append(token)
            run.probabilities.append(torch.eye(1024)[token])
            builder.add(f"<|mt_{token}|>")
            reply = builder.partial([first, second] if run is second else [first])
            seen.append((len(reply.objects[-1].tokens), reply.objects[-1].complete))
            assert not reply.finished
            # The mask of the last drawing stays while the tokens go on.
            assert reply.objects[-1].probability is not None
        run.closed = True
        builder.add("<|mt_end|>")
        assert builder.partial([first, second] if run is second else [first]).objects[-1].complete
    assert seen == [(count, False) for count in [*range(1, 33), *range(1, 6)]]
    assert drawer.calls == [[1], [2], [4], [8], [16], [32], [1], [2], [4], [5]]
    builder.final([first, second], "end", 100)
    assert drawer.calls[-1] == [32, 5]


def test_redrawing_takes_the_first_tokens_of_every_object_in_one_batch():
    soft = ReplyObject("a", None, None, None, tuple(B), np.eye(1024, dtype=np.float32)[B])
    pasted = ReplyObject("b", (0, 0, 1, 1), None, None, tuple(A))
    box = ReplyObject("c", (0, 0, 1, 1), None, None)
    reply = Reply("...", (soft, box, pasted), SIZE, problems=("kept",))
    drawer = Drawer()
    redrawn = redraw(reply, 8, drawer)
    assert drawer.calls == [[8, 4]]
    assert [item.mask is not None for item in redrawn.objects] == [True, False, True]
    assert redrawn.objects[0].tokens == tuple(B) and redrawn.objects[0].token_probabilities.shape == (
        32,
        1024,
    )
    assert redrawn.objects[1] is box and redrawn.problems == ("kept",)
    # With one token the map stays below 0.5 everywhere: told while it is so, not any longer.
    faint = redraw(redrawn, 1, drawer)
    assert faint.objects[0].mask is None and len(faint.problems) == 3
    assert redraw(faint, 32, drawer).problems == ("kept",)
