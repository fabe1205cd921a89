"""What the layers keep for their backward pass."""

import pytest
import torch

from metricconv_mm import MetricConv2d
from metricconv_mm.geometry import ENCODINGS


def kept_bytes(layer, image):
    """Bytes of the storages that a forward pass saves, beyond those of the image and the parameters."""
    known = {t.untyped_storage().data_ptr() for t in (image, *layer.parameters(), *layer.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes(), tensor  # held, or its memory would be handed out again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = layer(image)
    assert out.requires_grad
    return sum(size for pointer, (size, _) in kept.items() if pointer not in known)


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('groups', [1, 2])
def test_metric_layers_keep_their_raw_channels_and_metric_alone(stir, encoding, memory_format, groups):
    layer = stir(MetricConv2d(8, 6, 3, padding=1, encoding=encoding, metric_groups=groups))
    layer.to(memory_format=memory_format)
    image = torch.randn(2, 8, 16, 15).to(memory_format=memory_format).requires_grad_()
    support = 9 * 3 * 4
    per_pixel = groups * (layer.predictor_channels() + 5)
    assert kept_bytes(layer, image) - support == 2 * 16 * 15 * per_pixel * 4


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_under_autocast_predictor_and_operator_share_a_copy_of_the_image(stir, memory_format):
    layer = stir(MetricConv2d(8, 6, 3, padding=1))
    image = torch.randn(2, 8, 16, 15).to(memory_format=memory_format).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        kept = kept_bytes(layer, image)
    weights = layer.weight.numel() + layer.predictor.weight.numel()
    assert kept == 2 * (image.numel() + weights + 2 * 16 * 15 * 7) + 4 * (2 * 16 * 15 * 5 + 9 * 3)
