"""What FlopCounterMode counts."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from metricconv_mm import DeformConv2d, MetricConv2d, ShiftedConv2d
from metricconv_mm.ops.transforms import TRANSFORMS

CLASSES = [MetricConv2d, ShiftedConv2d, DeformConv2d]


def counted(model, *, backward, frozen=(), input_gradient=True):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    with FlopCounterMode(display=False) as counter:
        out = model(torch.randn(2, 4, 9, 7, requires_grad=input_gradient))
        if backward:
            out.sum().backward()
    return {str(operator): flops for operator, flops in counter.get_flop_counts()['Global'].items()}


@pytest.mark.parametrize('cls', CLASSES)
@pytest.mark.parametrize('backward', [False, True])
def test_an_adaptive_convolution_is_a_convolution_and_its_predictor(cls, backward):
    # torch counts the kernel's gradient of a grouped convolution once too often for every group
    geometry = dict(kernel_size=3, stride=2, padding=1, groups=1 if backward else 2)
    layer = cls(4, 6, **geometry, modulation=True)
    predictor = nn.Conv2d(4, layer.predictor.out_channels, 3, stride=2, padding=1)
    counts = [counted(model, backward=backward) for model in (layer, nn.Conv2d(4, 6, **geometry), predictor)]
    totals = [sum(count.values()) for count in counts]
    assert totals[0] == totals[1] + totals[2] > 0


@pytest.mark.parametrize('cls', CLASSES)
def test_gradients_that_nobody_needs_are_not_counted(cls):
    layer = cls(4, 6, 3)
    name = next(key for key in counted(layer, backward=True) if key.startswith('metricconv_mm') and key.endswith('backward'))
    both = counted(layer, backward=True)[name]
    assert counted(layer, backward=True, frozen=['weight'])[name] == both / 2
    assert counted(layer, backward=True, frozen=['predictor.weight', 'predictor.bias'], input_gradient=False)[name] == both / 2


def test_import_does_not_import_the_counter_and_either_order_registers():
    code = """
import importlib.util, sys
{first}
import metricconv_mm, torch
assert {early} or 'torch.utils.flop_counter' not in sys.modules
importlib.util.find_spec('torch.utils.flop_counter')
from torch.utils.flop_counter import flop_registry
assert sum('metricconv_mm' in str(packet) for packet in flop_registry) == {registered}
assert all(type(finder).__name__ != '_OnImport' for finder in sys.meta_path)
"""
    for first in ('', 'import torch.utils.flop_counter'):
        done = subprocess.run(
            [sys.executable, '-c', code.format(first=first, early=bool(first), registered=2 * len(TRANSFORMS))], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
