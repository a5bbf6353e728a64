"""What the page shows of a reply: nothing lost, nothing run, one colour per object everywhere."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from demo import drawing, views
from demo.visitor import Turn
from himtok_core import Prompt, Reply, ReplyObject, Timing, geometry, markup

SIZE = (80, 60)
RUN = markup.mask_run(range(32))
SHORT = markup.mask_run([5, 6, 7])


class Page(HTMLParser):
    """Which elements a piece of HTML has, and the text a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.elements if attributes.get("class") == name]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def square(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def found(
    label: str = "", box: tuple | None = None, mask: np.ndarray | None = None, tokens: int = 0
) -> ReplyObject:
    return ReplyObject(label, box, mask, None, tuple(range(tokens)))


def turn_of(
    text: str, *objects: ReplyObject, prompt: str = "Well?", first_colour: int = 0, **rest: object
) -> Turn:
    return Turn(Prompt(prompt), first_colour, Reply(text, objects, SIZE, **rest))


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


def colour_in(attributes: dict[str, str | None]) -> str:
    return re.search(r"--object: (#\w+)", attributes["style"] or "").group(1)


TAGS = st.sampled_from([
    "<ref>", "</ref>", "<box>", "</box>", "[[1,2,3,4]]", "<|mt_start|>", "<|mt_9|>", "<|mt_end|>",
    "<script>alert(1)</script>", "<img src=x onerror=y>", "&amp;", "${x}", "{{x}}", "`", '"',
])
MODEL_TEXT = st.lists(TAGS | st.text(max_size=8), max_size=12).map("".join)


# ---- text --------------------------------------------------------------------------------------------------


@given(MODEL_TEXT, st.booleans())
def test_nothing_a_model_writes_becomes_an_element_or_is_lost(text: str, finished: bool) -> None:
    turn = turn_of(text, finished=finished)
    html = views.conversation_html([turn])
    page = Page(html)
    ours = {"article", "div", "span", "p", "b", "i", "details", "summary", "code", "footer"}
    assert {tag for tag, _ in page.elements} <= ours
    if finished:
        raw = re.search(r'<details class="raw">.*?<code>(.*?)</code>', html, flags=re.S).group(1)
        assert Page(raw).text == text


@given(MODEL_TEXT.filter(str.strip))
def test_a_prompt_is_shown_letter_by_letter(text: str) -> None:
    without_chips = all(not isinstance(span, markup.MaskSpan) for span in markup.parse(text))
    shown = Page(views.prompt_html(text))
    assert {tag for tag, _ in shown.elements} <= {"span", "b", "details", "summary", "code", "i"}
    if without_chips:
        assert shown.text == text


def test_a_mask_run_is_one_chip_with_its_raw_text_inside() -> None:
    turn = turn_of(f"Here: {RUN}.", found(mask=square(1, 1, 9, 9), tokens=32))
    page = Page(views.reply_html(turn.reply, 0))
    assert len(page.all("details")) == 1
    assert "mask32 tokens" in page.text and RUN in page.text
    assert page.text.replace("mask32 tokens", "") == f"Here: {RUN}."


def test_a_run_that_is_cut_off_is_a_chip_too_and_says_why() -> None:
    page = Page(views.reply_html(turn_of("At " + RUN.removesuffix(markup.MASK_END)).reply, 0))
    assert len(page.all("details")) == 1
    assert "cut off" in page.text


def test_mask_tokens_on_their_own_are_one_chip_and_never_a_wall() -> None:
    strays = "".join(f"<|mt_{token}|>" for token in range(40))
    page = Page(views.reply_html(turn_of(f"so {strays} it").reply, 0))
    assert len(page.all("details")) == 1 and strays in page.text


def test_malformed_markup_is_marked_with_its_problem() -> None:
    page = Page(views.reply_html(turn_of("see <ref>a cat").reply, 0))
    (odd,) = page.with_class("odd")
    assert "</ref>" in odd["title"] and page.text == "see <ref>a cat"


# ---- colours -----------------------------------------------------------------------------------------------


def test_an_object_has_one_colour_in_text_legend_and_picture() -> None:
    text = f"A <ref>cat</ref> {RUN} and a <ref>dog</ref> {SHORT}<box>[[0, 0, 500, 500]]</box>."
    cat = found("cat", mask=square(2, 2, 20, 20), tokens=32)
    dog = found("dog", (0, 0, 40, 30), square(30, 30, 60, 50), 3)
    turn = turn_of(text, cat, dog, first_colour=3)
    said, legend, overlay = (Page(html) for html in (
        views.reply_html(turn.reply, turn.first_colour), views.legend_html(turn), views.overlay_html(turn)))
    for number in (3, 4):
        everywhere = [attributes for page in (said, legend, overlay)
                      for _, attributes in page.elements if attributes.get("data-object") == str(number)]
        assert {colour_in(attributes) for attributes in everywhere} == {drawing.colour_of(number)}
    numbers = [attributes.get("data-object") for tag, attributes in said.elements if tag in ("b", "details")]
    assert numbers == ["3", "3", "4", "4", "4"]
    assert [attributes["data-object"] for attributes in overlay.with_class("area")] == ["3", "4"]
    (area, _) = overlay.with_class("area")
    layer = np.asarray(decoded(area["src"]).convert("RGBA"))
    colour = (*bytes.fromhex(drawing.colour_of(3)[1:]), 255)
    assert {tuple(pixel) for pixel in layer[layer[..., 3] > 0]} == {colour}


def test_boxes_of_one_span_are_counted_off_before_the_next() -> None:
    text = "<ref>pears</ref><box>[[0,0,9,9],[20,20,30,30]]</box> <ref>plum</ref><box>[[1,1,2,2]]</box>"
    boxes = [found("pears", (0, 0, 1, 1)), found("pears", (2, 2, 3, 3)), found("plum", (0, 0, 1, 1))]
    reply = turn_of(text, *boxes).reply
    spans = markup.parse(text)
    owners = dict(zip((span.raw[:9] for span in spans), views.span_objects(spans, reply)))
    assert owners["<ref>pear"] == 0 and owners["<ref>plum"] == 2
    assert owners["<box>[[0,"] == 0 and owners["<box>[[1,"] == 2


def test_the_phrase_of_the_question_takes_the_colour_of_its_object() -> None:
    turn = turn_of(f"The mask appears at {SHORT}.", found(mask=square(0, 0, 5, 5), tokens=3),
                   prompt="Segment <ref>red apple</ref>.", first_colour=2)
    asked = Page(views.conversation_html([turn])).all("b")
    assert [colour_in(attributes) for attributes in asked] == [drawing.colour_of(2)]
    assert views.object_names(turn) == ["red apple"]


def test_objects_without_any_phrase_are_numbered() -> None:
    turn = turn_of("x", found(box=(0, 0, 1, 1)), found(box=(1, 1, 2, 2)))
    assert views.object_names(turn) == ["object 1", "object 2"]


# ---- pixels ------------------------------------------------------------------------------------------------


def test_the_mask_file_is_the_mask_at_the_size_of_the_picture() -> None:
    mask = square(10, 5, 33, 44)
    turn = turn_of(SHORT, found("red apple", mask=mask, tokens=3))
    (link,) = Page(views.legend_html(turn)).with_class("download")
    assert link["download"] == "mask-red-apple.png"
    picture = decoded(link["href"])
    assert picture.format == "PNG" and picture.size == SIZE
    assert np.array_equal(np.asarray(picture.convert("L")) == 255, mask)


@pytest.mark.parametrize("size", [(50, 40), (2400, 1100)])
def test_the_layer_over_the_picture_covers_what_the_mask_covers(size: tuple[int, int]) -> None:
    width, height = size
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4: height // 2, width // 3: width // 2] = True
    area, edge = (decoded(url) for url in drawing.layer_urls(mask, "#2f7fe0"))
    covered = np.asarray(area.convert("RGBA").resize(size))[..., 3] > 127
    assert geometry.mask_iou(covered, mask) > 0.95
    on_edge = np.asarray(edge.convert("RGBA"))[..., 3] > 0
    inside = np.asarray(area.convert("RGBA"))[..., 3] > 0
    assert 0 < on_edge.sum() < inside.sum() and not (on_edge & ~inside).any()


def test_the_border_of_the_picture_is_no_outline() -> None:
    everything = np.ones((12, 10), dtype=bool)
    assert not drawing.outline(everything, 2).any()


def test_a_file_name_is_made_of_letters_whatever_the_phrase_is() -> None:
    html = views.legend_html(turn_of(SHORT, found('"><img src=x>/../', mask=square(0, 0, 4, 4), tokens=3)))
    (link,) = Page(html).with_class("download")
    assert link["download"] == "mask-img-src-x.png"
    assert all(tag in ("ul", "li", "i", "b", "span", "a") for tag, _ in Page(html).elements)


def test_a_mask_can_only_be_taken_away_when_it_is_finished() -> None:
    turn = turn_of(SHORT, found("cat", mask=square(0, 0, 4, 4), tokens=3), finished=False)
    assert not Page(views.legend_html(turn)).with_class("download")


# ---- the rest ----------------------------------------------------------------------------------------------


def test_refined_masks_lie_beside_those_before_with_their_iou_and_time() -> None:
    turn = turn_of("<|mt_start|><|mt_0|><|mt_end|>", found("a", (1, 1, 5, 5), square(0, 0, 4, 4), tokens=1))
    assert views.refinement_html(turn) == "" and 'class="after"' not in views.overlay_html(turn)
    sharper = replace(turn.reply.objects[0], mask=square(0, 0, 4, 2))
    turn.refined, turn.refine_seconds = replace(turn.reply, objects=(sharper,)), 0.0421
    assert "IoU of the two 0.50 · 42 ms" in Page(views.refinement_html(turn)).text
    page = Page(views.overlay_html(turn))
    sources = [item["src"] for item in page.with_class("area")]
    assert len(sources) == 2 and sources[0] != sources[1] and len(page.with_class("box")) == 1
    assert len(page.with_class("before")) == len(page.with_class("after")) == 1
    file = decoded(Page(views.legend_html(turn)).with_class("download")[0]["href"])
    assert (np.asarray(file.convert("L")) == 255).sum() == 8  # the mask to take away is the one that is shown


def test_lengths_are_previews_of_every_length_and_mark_the_chosen_one() -> None:
    turn = turn_of(SHORT, found("cat", mask=square(20, 20, 60, 50), tokens=3))
    shorter = [Reply(SHORT, (found("cat", mask=square(20, 20, 20 + length, 50), tokens=3),), SIZE)
               for length in views.LENGTHS]
    turn.previews = views.length_previews(turn, shorter)
    page = Page(views.lengths_html(turn, 8))
    buttons = page.all("button")
    assert [button["data-length"] for button in buttons] == ["1", "2", "4", "8", "16", "32"]
    assert [button["data-length"] for button in buttons if button["aria-pressed"] == "true"] == ["8"]
    assert len(set(turn.previews)) == len(views.LENGTHS)


def test_without_a_mask_there_are_no_lengths() -> None:
    turn = turn_of("no", found("cat", (0, 0, 1, 1)))
    turn.previews = views.length_previews(turn, [turn.reply] * len(views.LENGTHS))
    assert turn.previews == () and views.lengths_html(turn, 32) == ""


def test_problems_times_and_errors_are_readable() -> None:
    timing = Timing(0.1, 0.2, 0.3, 0.1, 0.75, 90, 0, 41)
    answered = turn_of("No.", problems=("No mask & no box.",), stopped=True, timing=timing)
    failed = Turn(Prompt("And?"), 0, error="Out of <memory>.")
    page = Page(views.conversation_html([answered, failed]))
    assert "No mask & no box." in page.text and "stopped · 41 tokens · 0.8 s" in page.text
    assert "Out of <memory>." in page.text
    assert page.with_class("failed")[0]["role"] == "alert"


def test_suggestions_and_examples_carry_what_a_click_means() -> None:
    (button,) = Page(views.suggestions_html(['a "b" <c>'])).all("button")
    assert button["data-text"] == 'a "b" <c>'
    page = Page(views.examples_html([("data:x", "one"), ("data:y", "two")]))
    assert [button["data-example"] for button in page.all("button")] == ["0", "1"]
