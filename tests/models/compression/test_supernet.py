"""The supernet: blocks beside their replacements, and the networks that are cut out of it."""

import torch
from torch import Tensor, nn

from paredown.models.compression.supernet import (
    KEEP,
    attach_replacements,
    find_branches,
    pick_branch,
    select_branches,
)
from paredown.models.network.trace import Network, analyse_network

SHAPE = (3, 12, 12)
IMAGES = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Called with an option and with its own input once more, as some networks call theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor, shortcut: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
        return self.dropout(self.second(torch.relu(self.first(x)))) * scale + (x if shortcut is None else shortcut)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.fc = nn.Conv2d(3, 8, 3, padding=1), Block(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = self.block(x, x, scale=0.5)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def supernet() -> tuple[nn.Module, dict[str, dict[str, nn.Module]], Network]:
    torch.manual_seed(0)
    net, replacements = Net().eval(), {"block": {"dropped": Block().eval()}}
    return net, replacements, analyse_network(attach_replacements(net, replacements), SHAPE)


def test_what_was_not_picked_is_gone_also_behind_a_dropout() -> None:
    _, _, whole = supernet()
    branches = find_branches(whole.graph, whole.module)
    for picked, gone in ((KEEP, "block.instead."), ("dropped", "block.first")):
        cut = select_branches(whole, branches, {"block": picked})
        assert not [layer.name for layer in cut.layers if layer.name.startswith(gone)]
        assert "dropout" in [node.name.partition("_")[0] for node in cut.graph.graph.nodes]


def test_a_block_that_is_called_with_more_than_its_feature_map() -> None:
    net, replacements, whole = supernet()
    branches = find_branches(whole.graph, whole.module)
    with torch.no_grad():
        kept = select_branches(whole, branches, {}).graph(IMAGES)
        assert torch.allclose(kept, net(IMAGES), atol=1e-6)
        taken = select_branches(whole, branches, {"block": "dropped"}).graph(IMAGES)
        assert torch.allclose(taken, pick_branch(net, replacements, {"block": "dropped"})(IMAGES), atol=1e-6)
        assert not torch.allclose(taken, kept, atol=1e-3)
