import pytest
import torch


@pytest.fixture
def scene():
    """A bright disk and a dark bar on grey, ``Tensor[1, 40, 40]`` in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing='ij')
    image = torch.full((40, 40), 0.4)
    image[(x - 14) ** 2 + (y - 16) ** 2 < 90] = 0.9
    image[27:33, 8:36] = 0.1
    return image[None]
