"""Which layer reads which."""

from paredown.stages.analysis.dataflow import layer_borders
from paredown.stages.analysis.prepared_model import PreparedModel


def test_borders_are_the_edges_between_layers(prepared: PreparedModel) -> None:
    assert {(a.name, b.name) for a, b, _ in layer_borders(prepared)} == {
        ("stem.0", "block.conv1"),
        ("stem.0", "add"),
        ("block.conv1", "block.conv2"),
        ("block.conv2", "add"),
        ("add", "depthwise"),
        ("depthwise", "pointwise.0"),
        ("pointwise.0", "fc"),
    }
