"""BatchNorms as if they were trained: those of a new network do nothing, and hide mistakes."""

from torch import nn


def with_used_norms(network: nn.Module) -> nn.Module:
    """Give every BatchNorm random statistics and scales."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return network
