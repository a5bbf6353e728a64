import pytest

from himtok_core.generation.constraints import MaskIds, RunGrammar

IDS = MaskIds(start=10, end=11, first=12, count=1024)


def after(tokens: list[int], mask_tokens: int | None = None) -> RunGrammar:
    grammar = RunGrammar(IDS, mask_tokens)
    for token in tokens:
        grammar.accept(token)
    return grammar


def test_a_run_has_exactly_the_wanted_length():
    for count in range(3):
        grammar = after([5, 10] + [12] * count, mask_tokens=3)
        assert grammar.inside and not grammar.must_end and not grammar.may_end
    assert after([5, 10, 12, 12, 12], mask_tokens=3).must_end
    assert not after([5, 10, 12, 12, 12, 11], mask_tokens=3).inside


def test_without_a_wanted_length_the_model_decides_up_to_32():
    assert not after([10]).may_end
    assert after([10, 12]).may_end and not after([10, 12]).must_end
    assert not after([10] + [12] * 31).must_end
    assert after([10] + [12] * 32).must_end


def test_a_second_run_counts_from_zero():
    grammar = after([10, 12, 13, 11, 5, 10, 12], mask_tokens=2)
    assert grammar.inside and not grammar.must_end


@pytest.mark.parametrize("tokens", [[12], [11], [10, 11], [10, 5], [10, 10], [10, 12, 12, 12], [10, 12, 11]])
def test_what_cannot_come_is_refused(tokens):
    with pytest.raises(AssertionError):
        after(tokens, mask_tokens=2)


def test_mask_ids_know_their_block():
    assert 12 in IDS and 12 + 1023 in IDS
    assert 11 not in IDS and 12 + 1024 not in IDS
