"""A penalty on what the predictors have learnt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .inspection import adaptive_layers


def predictor_l1(model: nn.Module) -> Tensor:
    """The paper's regulariser: R = mean over the weights and biases of all predictors of mean(|tensor|).

    Add ``weight * predictor_l1(model)`` to the loss; the authors' weight on CIFAR is 5000. Every tensor counts alike, so that a bias of 7 numbers is
    pulled as strongly as a weight of 30,000.

    Returns:
        ``Tensor[]``, in float32 or better.

    Raises:
        ValueError: for a model without adaptive convolutions.
    """
    parameters = [parameter for layer in adaptive_layers(model).values() for parameter in layer.predictor.parameters()]
    dtype = torch.float64 if parameters[0].dtype == torch.float64 else torch.float32
    return torch.stack([parameter.to(dtype).abs().mean() for parameter in parameters]).mean()
