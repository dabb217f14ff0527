"""The ResNet-18 of He et al. (2015) as it is used on CIFAR's small images: a 3x3 stem that shrinks nothing."""

from torch import nn

from paredown.models.loading.libraries import quiet_torchvision


def resnet18(classes: int) -> nn.Module:
    """For a recipe's `model.source`."""
    quiet_torchvision()
    from torchvision.models import resnet18 as imagenet

    model: nn.Module = imagenet(num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model
