"""What a file says of itself: kept beside what others wrote, and the same bytes for the same facts."""

import pytest
from onnx import ModelProto

from paredown.models.onnx.metadata import embed_metadata, embedded_metadata

FACTS = {"seed": 3, "classes": ["näme", "\udcff"], "plan": {"quantize": {"int8": ["a", "b"]}}}


def props(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def test_what_is_embedded_is_read_again() -> None:
    model = ModelProto()
    embed_metadata(model, FACTS)
    assert embedded_metadata(ModelProto.FromString(model.SerializeToString())) == FACTS
    assert all(key.startswith("paredown.") for key in props(model))


def test_the_order_of_facts_does_not_matter() -> None:
    first, second = ModelProto(), ModelProto()
    embed_metadata(first, FACTS)
    embed_metadata(second, dict(reversed(FACTS.items())))
    assert first.SerializeToString() == second.SerializeToString()


def test_what_others_wrote_stays_and_our_own_is_replaced() -> None:
    model = ModelProto()
    model.metadata_props.add(key="author", value="somebody")
    embed_metadata(model, {"seed": 1, "old": True})
    embed_metadata(model, {"seed": 2})
    assert props(model) == {"author": "somebody", "paredown.seed": "2"}
    assert embedded_metadata(model) == {"seed": 2}


@pytest.mark.parametrize("value", ["{no json", "[" * 100_000, ""])
def test_a_value_that_is_no_json_is_text(value: str) -> None:
    model = ModelProto()
    model.metadata_props.add(key="paredown.seed", value=value)
    assert embedded_metadata(model) == {"seed": value}


def test_what_json_cannot_say_is_an_error() -> None:
    with pytest.raises(ValueError, match="JSON"):
        embed_metadata(ModelProto(), {"loss": float("nan")})
