"""Charts: every line where its values put it, every text as text."""

from xml.etree import ElementTree

import pytest

from himtok_core.evaluation.charts import Panel, chart


def elements(picture: str, kind: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(picture).iter() if e.tag.endswith(kind)]


def points(line: ElementTree.Element) -> list[tuple[float, ...]]:
    return [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]


def test_lines_lie_where_their_values_put_them() -> None:
    lines = {"up": [(0, 0.0), (2, 0.5), (4, 1.0)], "flat": [(0, 0.5), (4, 0.5)]}
    picture = chart([[Panel("one", lines, {4: "four"})]])
    up, flat = map(points, elements(picture, "polyline"))
    assert up[2][1] < flat[0][1] == flat[1][1] == up[1][1] < up[0][1], "up is up"
    assert [x for x, _ in up] == pytest.approx([up[0][0], (up[0][0] + up[2][0]) / 2, up[2][0]])


def test_panels_lie_beside_and_below_one_another() -> None:
    panel = Panel("p", {"a": [(0, 1.0), (1, 2.0)]}, {})
    first, beside, below = map(points, elements(chart([[panel, panel], [panel]]), "polyline"))
    assert beside[0][0] > first[1][0] and beside[0][1] == first[0][1]
    assert below[0][1] > first[0][1] and below[0][0] == first[0][0]


def test_a_steep_beginning_is_cut_off_at_the_top() -> None:
    line = [(0, 1000.0), (50, 2.0), (100, 1.0)]
    (drawn,) = map(points, elements(chart([[Panel("loss", {"loss": line}, {})]]), "polyline"))
    assert drawn[0][1] == drawn[1][1] < drawn[2][1]


def test_names_are_escaped_and_an_empty_panel_is_empty() -> None:
    picture = chart([[Panel("<b>", {"a & b": [(0, 1.0)]}, {0: "<0>"}), Panel("nothing", {}, {})]])
    texts = {e.text for e in elements(picture, "text")}
    assert {"<b>", "a & b", "<0>", "nothing"} <= texts and len(elements(picture, "polyline")) == 1
