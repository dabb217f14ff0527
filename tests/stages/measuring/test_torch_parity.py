"""What is said of an artifact's answers beside those of the torch network."""

from dataclasses import replace

from paredown.stages.measuring.torch_parity import parity_note, too_far, too_few_alike
from paredown.stages.products.parity import Parity

PARITY = Parity(
    agreement=0.926,
    mean_difference=0.28,
    logit_spread=4.37,
    images=256,
    limit=0.95,
    difference=0.0851,
    rounding=0.0771,
    difference_limit=0.1542,
)


def test_only_what_rounding_does_not_explain_is_too_far() -> None:
    assert too_far(PARITY) == ""
    assert too_far(replace(PARITY, difference=0.1543)) == (
        "parity: the logits of artifact and torch differ by 15.43 % of their spread; the limit is 15.42 %"
    )


def test_equal_answers_are_held_to_their_limit() -> None:
    line = "parity: artifact and torch agree on 0.926 of 256 images; the limit is 0.950"
    assert too_few_alike(PARITY) == line
    assert too_few_alike(replace(PARITY, agreement=0.95)) == ""


def test_few_equal_answers_are_told_with_what_rounding_makes() -> None:
    note = parity_note(PARITY)
    assert "only 92.6 % of 256 validation images" in note
    assert "differ by 8.5 % of their spread, of which rounding alone makes 7.7 %" in note
    assert parity_note(replace(PARITY, agreement=0.95)) == ""
