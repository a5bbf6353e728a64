"""A visitor's state on a real, tiny model: turns, limits, and nothing shared."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo import visitor as visitor_module
from demo.visitor import Visitor
from himtok_core import Chat, HimtokError, PictureError, Prompt, SamRefiner

CAT = Prompt("Segment <ref>cat</ref>.", expects_mask=True)
ALL = Prompt("What is there?")
SAM_MINI = Path(__file__).parents[2] / "assets" / "sam-mini"


@pytest.fixture
def file(tmp_path: Path, picture: Image.Image) -> Path:
    path = tmp_path / "scene.png"
    picture.save(path)
    return path


@pytest.fixture
def visitor(tiny_chat: Chat, file: Path) -> Visitor:
    visitor = Visitor(tiny_chat)
    visitor.open(file)
    return visitor


def ask(visitor: Visitor, prompt: Prompt) -> None:
    visitor.accept(prompt)
    for _ in visitor.answers():
        pass


def test_an_answer_streams_into_its_turn(visitor: Visitor) -> None:
    visitor.accept(CAT)
    assert visitor.busy and visitor.last_answer() is None
    texts = [turn.reply.text for turn in visitor.answers()]
    assert len(texts) > 5 and all(later.startswith(earlier) for earlier, later in zip(texts, texts[1:]))
    assert not visitor.busy
    (turn,) = visitor.turns
    assert turn is visitor.last_answer() and turn.reply.finished
    assert turn.reply.objects[0].mask.shape == (40, 60)


def test_a_conversation_goes_on_and_never_uses_a_colour_number_twice(visitor: Visitor) -> None:
    for prompt in (CAT, ALL, CAT):
        ask(visitor, prompt)
    counts = [len(turn.reply.objects) for turn in visitor.turns]
    assert [turn.first_colour for turn in visitor.turns] == [0, counts[0], counts[0] + counts[1]]
    assert len(visitor.conversation.turns) == 3


def test_the_last_mask_is_that_of_the_last_answer_with_one(visitor: Visitor) -> None:
    assert visitor.last_mask() == ()
    ask(visitor, CAT)
    first = visitor.turns[0].reply.objects[0].tokens
    assert visitor.last_mask() == first and len(first) == 32
    visitor.accept(ALL)
    assert visitor.last_mask() == first, "an answer that is still awaited has none"
    for turn in visitor.answers():
        if not turn.finished:
            assert visitor.last_mask() == first
    visitor.clear()
    assert visitor.last_mask() == ()


def test_what_cannot_be_asked_says_why(
    tiny_chat: Chat, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HimtokError, match="no picture"):
        Visitor(tiny_chat).accept(CAT)
    with pytest.raises(HimtokError, match="at most 2000"):
        visitor.accept(Prompt("x" * 2001))
    with pytest.raises(HimtokError, match="nothing to retry"):
        visitor.retry()
    visitor.accept(CAT)
    with pytest.raises(HimtokError, match="still being answered"):
        visitor.accept(CAT)
    with pytest.raises(HimtokError, match="still being answered"):
        visitor.retry()
    list(visitor.answers())
    monkeypatch.setattr(visitor_module, "MAX_TURNS", 1)
    with pytest.raises(HimtokError, match="is full"):
        visitor.accept(CAT)


def test_a_question_can_be_taken_back_while_it_waits(visitor: Visitor) -> None:
    visitor.accept(CAT)
    visitor.stop()
    assert not visitor.busy and "Stopped" in visitor.turns[0].error
    assert list(visitor.answers()) == [] and visitor.conversation.turns == ()
    ask(visitor, CAT)
    assert visitor.last_answer().reply.finished


def test_stop_ends_the_answer_and_keeps_what_came(visitor: Visitor) -> None:
    visitor.accept(CAT)
    seen = 0
    for _ in visitor.answers():
        seen += 1
        if seen == 4:
            visitor.stop()
    (turn,) = visitor.turns
    assert turn.reply.stopped and turn.reply.finished and not visitor.busy
    assert seen < 10
    ask(visitor, CAT)
    assert visitor.turns[1].reply.finished and not visitor.turns[1].reply.stopped


def test_a_visitor_who_leaves_frees_the_model(visitor: Visitor) -> None:
    visitor.accept(CAT)
    answers = visitor.answers()
    next(answers)
    answers.close()
    assert not visitor.busy
    ask(visitor, CAT)
    assert visitor.last_answer().reply.finished


def test_retry_takes_the_turn_back_first(visitor: Visitor) -> None:
    ask(visitor, ALL)
    ask(visitor, CAT)
    first = visitor.turns[1]
    visitor.retry()
    assert visitor.busy and len(visitor.conversation.turns) == 1
    list(visitor.answers())
    assert visitor.turns[1] is not first and visitor.turns[1].prompt is first.prompt
    assert len(visitor.turns) == len(visitor.conversation.turns) == 2


def test_retry_of_a_question_that_never_began_undoes_nothing(visitor: Visitor) -> None:
    ask(visitor, ALL)
    visitor.accept(CAT)
    visitor.stop()
    visitor.retry()
    assert len(visitor.conversation.turns) == 1
    list(visitor.answers())
    assert visitor.turns[1].reply.finished and len(visitor.conversation.turns) == 2


def test_an_error_of_the_model_is_kept_on_the_turn(visitor: Visitor) -> None:
    visitor.accept(Prompt("word " * 399))
    with pytest.raises(HimtokError) as caught:
        list(visitor.answers())
    assert visitor.turns[0].error == str(caught.value) and not visitor.busy
    visitor.turns.clear()
    ask(visitor, CAT)
    assert visitor.last_answer().reply.objects


def test_fewer_tokens_redraw_the_mask_without_asking(visitor: Visitor) -> None:
    ask(visitor, CAT)
    turn = visitor.last_answer()
    whole = turn.visible.objects[0].probability
    visitor.shorten(1)
    short = turn.visible.objects[0].probability
    assert not np.array_equal(short, whole) and turn.reply.objects[0].probability is whole
    visitor.shorten(32)
    assert turn.visible.objects[0].probability is whole
    assert len(visitor.conversation.turns) == 1


def test_a_new_question_starts_with_all_tokens(visitor: Visitor) -> None:
    ask(visitor, CAT)
    visitor.shorten(3)
    visitor.accept(CAT)
    assert visitor.mask_tokens == 32


@pytest.fixture(scope="module")
def refiner() -> SamRefiner:
    return SamRefiner.from_pretrained(SAM_MINI, device="cpu")


def test_masks_are_refined_and_back_again(visitor: Visitor, refiner: SamRefiner) -> None:
    visitor.refiner = refiner
    ask(visitor, CAT)
    visitor.refine(True)
    turn = visitor.last_answer()
    assert turn.visible is turn.refined and turn.refine_seconds > 0
    before, after = turn.unrefined.objects[0], turn.refined.objects[0]
    assert after.mask.shape == before.mask.shape and after.tokens == before.tokens
    visitor.refine(False)
    assert turn.refined is None and turn.visible is turn.reply


def test_refinement_follows_the_length_and_goes_on_with_the_next_answer(
    visitor: Visitor, refiner: SamRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    embed = refiner.embed
    monkeypatch.setattr(refiner, "embed", lambda picture: looks.append(picture) or embed(picture))
    visitor.refiner = refiner
    visitor.refine(True)  # before there is anything to refine
    ask(visitor, CAT)
    visitor.refine(visitor.refining)
    first = visitor.last_answer().refined
    visitor.shorten(1)
    assert visitor.last_answer().refined is not first
    assert visitor.last_answer().unrefined is visitor.last_answer().shown
    visitor.clear()
    ask(visitor, CAT)
    visitor.refine(visitor.refining)
    assert visitor.last_answer().refined is not None
    assert looks == [visitor.conversation.picture]  # one picture is looked at once


def test_a_picture_opened_while_another_is_looked_at_gets_a_look_of_its_own(
    visitor: Visitor,
    refiner: SamRefiner,
    picture: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture.resize((120, 80), Image.Resampling.NEAREST).save(tmp_path / "other.png")
    embed, looks = refiner.embed, []

    def interrupted(picture: Image.Image) -> object:
        looks.append(picture.size)
        if len(looks) == 1:
            visitor.open(tmp_path / "other.png")
        return embed(picture)

    monkeypatch.setattr(refiner, "embed", interrupted)
    visitor.refiner = refiner
    ask(visitor, CAT)
    visitor.refine(True)
    ask(visitor, CAT)
    visitor.refine(visitor.refining)
    assert looks == [(60, 40), (120, 80)]
    assert visitor.last_answer().refined.objects[0].mask.shape == (80, 120)


def test_without_a_refiner_there_is_no_refining(visitor: Visitor) -> None:
    with pytest.raises(HimtokError, match="--refiner"):
        visitor.refine(True)
    assert not visitor.refining


def test_clear_keeps_the_picture_and_open_changes_it(visitor: Visitor, tmp_path: Path) -> None:
    ask(visitor, CAT)
    visitor.clear()
    assert visitor.turns == [] and visitor.conversation.turns == ()
    assert visitor.conversation.picture.size == (60, 40)
    other = tmp_path / "other.png"
    Image.new("RGB", (32, 48), "teal").save(other)
    visitor.open(other, ["teal"])
    assert visitor.conversation.picture.size == (32, 48) and visitor.names == ("teal",)


def test_a_file_that_is_no_picture_changes_nothing(visitor: Visitor, tmp_path: Path) -> None:
    ask(visitor, CAT)
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    conversation = visitor.conversation
    with pytest.raises(PictureError):
        visitor.open(text)
    assert visitor.conversation is conversation and len(visitor.turns) == 1


def test_visitors_share_nothing(tiny_chat: Chat, file: Path) -> None:
    one, two = Visitor(tiny_chat), Visitor(tiny_chat)
    one.open(file, ["cat"])
    with pytest.raises(HimtokError, match="no picture"):
        two.accept(CAT)
    two.open(file)
    ask(one, ALL)
    one.accept(CAT)
    answers = one.answers()
    next(answers)
    two.accept(CAT)  # while the other's answer streams
    two.stop()
    list(answers)
    assert one.turns[1].reply.finished and not one.turns[1].reply.stopped
    assert two.names == () and len(two.turns) == 1 and two.conversation.turns == ()


def test_close_lets_go_of_everything(visitor: Visitor) -> None:
    ask(visitor, CAT)
    visitor.close()
    assert visitor.conversation is None and visitor.turns == []
