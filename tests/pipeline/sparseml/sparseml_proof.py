"""Run by the interpreter that has SparseML: trains a small network by an exported recipe, and prints the fraction of
zeros in every layer as JSON. Of a recipe in stage style, whose pruning needs parts of SparseML for text models, it
prints the levels that SparseML reads for its targets. Arguments: `epoch` or `stage`, and the recipe."""

import json
import sys

import torch
from sparseml.core.recipe import Recipe
from sparseml.pytorch.optim import ScheduledModifierManager
from torch import nn

STEPS = 4


class OpenQConfig(torch.quantization.QConfig):
    """SparseML 1.8 hangs attributes on it, which torch no longer allows."""


torch.quantization.QConfig = OpenQConfig


class Net(nn.Module):
    """The layers of the network that the tests plan for."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 1))
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.hidden = nn.Linear(32, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.depthwise(self.block(self.stem(images))).relu().mean((2, 3))
        return self.head(self.hidden(pooled).relu())


def sparsity(recipe: str) -> dict[str, float]:
    torch.manual_seed(0)
    net, teacher = Net(), Net()
    layers = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    manager = ScheduledModifierManager.from_yaml(recipe)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    optimizer = manager.modify(net, optimizer, steps_per_epoch=STEPS, epoch=0, distillation_teacher=teacher)
    for epoch in range(int(manager.max_epochs)):
        for _ in range(STEPS):
            images, labels = torch.randn(8, 3, 8, 8), torch.randint(0, 4, (8,))
            optimizer.zero_grad()
            answers = net(images)
            loss = nn.functional.cross_entropy(answers, labels)
            loss = manager.loss_update(
                loss, net, optimizer, epoch, STEPS, student_outputs=answers, student_inputs=images
            )
            loss.backward()
            optimizer.step()
    manager.finalize(net)
    found = {name: (value == 0).float().mean().item() for name, value in net.named_parameters() if value.ndim > 1}
    # SparseML wraps quantized layers and fuses others with their batch norm, which makes their names longer.
    return {layer: zeros for layer in layers for name, zeros in found.items() if name.startswith(f"{layer}.")}


def levels(recipe: str) -> dict[str, float]:
    read = Recipe.create_instance(recipe)
    read.evaluate()
    options = [modifier.args_evaluated for stage in read.stages for modifier in stage.modifiers]
    found = [(given.get("final_sparsity", given.get("sparsity")), given.get("targets", ())) for given in options]
    return {target: level for level, targets in found if level is not None for target in targets}


if __name__ == "__main__":
    style, file = sys.argv[1:]
    print(json.dumps(sparsity(file) if style == "epoch" else levels(file)))
