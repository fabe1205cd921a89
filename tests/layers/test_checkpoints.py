"""State dictionaries, and kernels that are fixed."""

import pytest
import torch
from torch import nn

from metricconv_mm import DeformConv2d

KEYS = ['weight', 'bias', 'predictor.weight', 'predictor.bias']


def test_keys(cls):
    assert list(cls(4, 6, 3).state_dict()) == KEYS
    assert list(cls(4, 6, 3, bias=False, modulation=True).state_dict()) == ['weight', 'predictor.weight', 'predictor.bias']
    assert list(cls(4, 6, 3, fixed_kernel=True).state_dict()) == KEYS[1:]


@pytest.mark.parametrize('fixed_kernel', [True, False])
def test_round_trip(cls, stir, fixed_kernel):
    layer, other = (stir(cls(4, 6, 3, fixed_kernel=fixed_kernel, modulation=True)) for _ in range(2))
    image = torch.randn(1, 4, 8, 8)
    assert not torch.equal(other(image), layer(image))
    other.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(other(image), layer(image))


@pytest.mark.parametrize('nested', [True, False])
def test_checkpoints_of_plain_convolutions_load_and_leave_the_predictor(cls, stir, nested):
    plain, layer = nn.Conv2d(4, 6, 3), stir(cls(4, 6, 3))
    predictor = {name: tensor.clone() for name, tensor in layer.predictor.state_dict().items()}
    source, target = (nn.Sequential(nn.ReLU(), nn.Sequential(m)) if nested else m for m in (plain, layer))
    checkpoint = source.state_dict()
    result = target.load_state_dict(checkpoint, strict=True)
    assert not result.missing_keys and not result.unexpected_keys
    assert torch.equal(layer.weight, plain.weight) and torch.equal(layer.bias, plain.bias)
    assert all(torch.equal(tensor, predictor[name]) for name, tensor in layer.predictor.state_dict().items())
    assert checkpoint.keys() == source.state_dict().keys()  # the caller's own dictionary is not written to


def test_a_checkpoint_that_lacks_more_is_still_refused(cls):
    layer = cls(4, 6, 3)
    with pytest.raises(RuntimeError, match=r'Missing key.*bias'):
        layer.load_state_dict(nn.Conv2d(4, 6, 3, bias=False).state_dict())
    with pytest.raises(RuntimeError, match=r'Missing key.*predictor\.bias'):
        layer.load_state_dict({name: t for name, t in layer.state_dict().items() if name != 'predictor.bias'})
    with pytest.raises(RuntimeError, match='size mismatch for weight'):
        layer.load_state_dict(nn.Conv2d(4, 6, 5).state_dict())
    with pytest.raises(RuntimeError, match='Unexpected key'):
        layer.load_state_dict({**layer.state_dict(), 'scale': torch.ones(1)})


def test_checkpoints_can_be_assigned(cls, stir):
    layer = stir(cls(4, 6, 3))
    bare = cls(4, 6, 3, device='meta')
    bare.load_state_dict(layer.state_dict(), assign=True)
    image = torch.randn(1, 4, 8, 8)
    assert torch.equal(bare(image), layer(image))


def test_a_fixed_kernel_is_constant_and_no_parameter(cls):
    layer = cls(4, 6, 3, groups=2, fixed_kernel=True, kernel_init='kaiming')
    assert torch.equal(layer.weight, torch.full((6, 2, 3, 3), 1 / 18))
    assert dict(layer.named_parameters()).keys() == set(KEYS[1:])
    assert layer.weight.requires_grad is False


def test_a_fixed_kernel_goes_where_its_layer_goes(cls):
    layer = cls(4, 6, 3, fixed_kernel=True).to(torch.float64)
    assert layer.weight.dtype == torch.float64
    assert layer(torch.ones(1, 4, 5, 5, dtype=torch.float64)).dtype == torch.float64
    assert layer.to('meta').weight.is_meta


@pytest.mark.parametrize('nested', [True, False])
def test_a_fixed_kernel_survives_the_checkpoint_of_a_plain_convolution(cls, nested):
    plain, layer = nn.Conv2d(4, 6, 3), cls(4, 6, 3, fixed_kernel=True)
    source, target = (nn.Sequential(m) if nested else m for m in (plain, layer))
    target.load_state_dict(source.state_dict(), strict=True)
    assert torch.equal(layer.weight, torch.full((6, 4, 3, 3), 1 / 36))
    assert torch.equal(layer.bias, plain.bias)


def test_a_fixed_kernel_stays_in_training(cls, stir):
    layer = stir(cls(4, 6, 3, fixed_kernel=True))
    before = layer.weight.clone()
    layer(torch.randn(1, 4, 8, 8)).square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=1.0, weight_decay=0.5).step()
    assert torch.equal(layer.weight, before) and layer.predictor.weight.grad.any()


def test_a_parent_of_plain_and_adaptive_layers_round_trips():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), DeformConv2d(4, 4, 3, fixed_kernel=True), nn.BatchNorm2d(4))
    other = nn.Sequential(nn.Conv2d(3, 4, 3), DeformConv2d(4, 4, 3, fixed_kernel=True), nn.BatchNorm2d(4))
    other.load_state_dict(model.state_dict())
    image = torch.randn(2, 3, 8, 8)
    assert torch.equal(other.eval()(image), model.eval()(image))
