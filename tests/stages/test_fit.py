"""What `fit` trains of a network whose code froze parts of it."""

from torch import nn

from paredown.stages.fit import thawed


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_what_is_frozen_stays_so_unless_nothing_is_left_to_train() -> None:
    net = _net()
    assert thawed(net) == []
    net[0].requires_grad_(False)
    assert thawed(net) == ["fit: the model's code froze 2 of 4 parameters, they stay so; recover trains them all"]
    assert [parameter.requires_grad for parameter in net.parameters()] == [False, False, True, True]
    net.requires_grad_(False)
    assert thawed(net) == ["fit: the model's code froze all parameters; they are trained here"]
    assert all(parameter.requires_grad for parameter in net.parameters())
