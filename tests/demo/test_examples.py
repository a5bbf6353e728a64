"""The example pictures that ship."""

import json
from pathlib import Path

from PIL import Image

from demo.examples import load_examples


def test_the_shipped_examples_can_be_opened_and_name_what_is_in_them() -> None:
    examples = load_examples()
    assert len(examples) >= 6
    for example in examples:
        with Image.open(example.path) as picture:
            picture.verify()
        assert example.names and len(set(example.names)) == len(example.names)


def test_a_name_that_occurs_twice_is_suggested_once(tmp_path: Path) -> None:
    truth = {"b.png": [{"name": "pear"}, {"name": "plum"}, {"name": "pear"}], "a.png": [{"name": "key"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    first, second = load_examples(tmp_path)
    assert (first.path, first.names) == (tmp_path / "b.png", ("pear", "plum"))
    assert second.names == ("key",)
