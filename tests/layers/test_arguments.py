"""Arguments that do not fit, and how the layers say so."""

import re

import pytest
import torch

from metricconv_mm import MetricConv2d

CASES = [
    ({'groups': 3}, r'expected groups to divide in_channels=4, got groups=3'),
    ({'groups': 0}, r'expected groups to divide in_channels=4, got groups=0'),
    ({'groups': 4}, r'expected groups to divide out_channels=6, got groups=4'),
    ({'kernel_init': 'xavier'}, r"unknown kernel_init 'xavier': choose one of \('uniform', 'kaiming'\)"),
    ({'predictor_init': 'zero'}, r"unknown predictor_init 'zero': choose one of \('paper', 'identity'\)"),
    ({'padding_mode': 'mirror'}, r"unknown padding_mode 'mirror': choose one of \('zeros', 'reflect', 'replicate', 'circular'\)"),
    ({'padding': 'full'}, r"expected padding as integers, 'same' or 'valid', got padding='full'"),
]
METRIC_CASES = [
    ({'kernel_size': 4}, r"expected an odd square kernel, got kernel_size=\(4, 4\). Use support='polar' or 'grid'"),
    ({'kernel_size': (3, 5)}, r'expected an odd square kernel, got kernel_size=\(3, 5\)'),
    ({'eps_w': 0}, 'expected 0 < eps_w <= 1.*got eps_w=0'),
    ({'eps_w': 1.5}, 'expected 0 < eps_w <= 1.*got eps_w=1.5'),
    ({'scale_range': (1.5, 0.1)}, r'expected scale_range=.*got scale_range=\(1.5, 0.1\)'),
    ({'eps_L': 0.0}, 'expected eps_L > 0.*got eps_L=0.0'),
    ({'encoding': 'qr'}, r"unknown encoding='qr': choose one of \['cholesky', 'isotropic', 'ldl', 'spectral', 'spectral_scaled'\]"),
    ({'drift': 'tanh'}, r"unknown drift='tanh': choose one of \['clip_detached', 'none', 'sigmoid', 'sigmoid_detached'\]"),
    ({'metric': 'kropina'}, r"unknown metric='kropina': choose one of \['isotropic', 'matsumoto', 'randers', 'riemann'\]"),
    ({'metric': 'riemann', 'drift': 'sigmoid'}, r"metric='riemann' has drift 'none', got drift='sigmoid': leave it out, or choose another metric"),
    ({'metric': 'isotropic', 'encoding': 'ldl'}, r"metric='isotropic' has encoding 'isotropic', got encoding='ldl'"),
    ({'metric': 'isotropic', 'predictor_init': 'identity', 'scale_range': (0.1, 0.9)}, r'stays within scale_range=.*choose a wider scale_range'),
    ({'support': 'star'}, r"unknown support='star': choose one of \['grid', 'onion', 'polar'\]"),
    ({'encoding': 'cholesky', 'predictor_init': 'identity', 'eps_L': 1.5}, 'choose eps_L below'),
    ({'predictor_init': 'identity', 'scale_range': (0.1, 0.4)}, 'choose a wider scale_range'),
]


@pytest.mark.parametrize(('arguments', 'words'), CASES, ids=str)
def test_shared_arguments(cls, arguments, words):
    with pytest.raises(ValueError, match=f'^{cls.__name__}: {words}'):
        cls(4, 6, **{'kernel_size': 3, **arguments})


@pytest.mark.parametrize(('arguments', 'words'), METRIC_CASES, ids=str)
def test_arguments_of_metrics(arguments, words):
    with pytest.raises(ValueError, match=words):
        MetricConv2d(4, 6, **{'kernel_size': 3, **arguments})


@pytest.mark.parametrize('count', [0, 3])
def test_parameter_groups_are_called_by_their_own_name(cls, count):
    with pytest.raises(ValueError, match=f'expected {cls.groups_argument} to divide in_channels=4, got {cls.groups_argument}={count}'):
        cls(4, 6, 3, **{cls.groups_argument: count})


def test_unknown_arguments_are_refused(cls):
    with pytest.raises(TypeError, match='kernel_shape'):
        cls(4, 6, 3, kernel_shape=3)


@pytest.mark.parametrize('shape', [(1, 3, 8, 8), (3, 8, 8), (8, 8), (1, 1, 4, 8, 8)])
@pytest.mark.parametrize('method', ['forward', 'samples'])
def test_inputs_of_another_shape(cls, shape, method):
    words = f'{cls.__name__}: expected input [N, 4, H, W] or [4, H, W], got input.shape={torch.Size(shape)}'
    with pytest.raises(ValueError, match=f'^{re.escape(words)}$'):
        getattr(cls(4, 6, 3), method)(torch.ones(shape))


def test_inputs_too_small_for_the_kernel(cls):
    with pytest.raises((ValueError, RuntimeError), match=r'Kernel size|no window fits'):
        cls(4, 6, 3)(torch.ones(1, 4, 2, 2))


def test_misspelt_options_are_named_with_those_there_are(cls):
    with pytest.raises(TypeError, match=rf'{cls.__name__} has no option suport: choose from .*kernel_init'):
        cls(4, 6, 3, suport='grid')


@pytest.mark.parametrize('arguments', [{'stride': 0}, {'padding': (1, -1)}, {'dilation': 0}])
def test_geometry_out_of_range(cls, arguments):
    with pytest.raises(ValueError, match='of at least'):
        cls(4, 6, 3, **arguments)


def test_metric_groups_are_parameter_groups():
    assert MetricConv2d(4, 6, 3, parameter_groups=2).predictor.out_channels == MetricConv2d(4, 6, 3, metric_groups=2).predictor.out_channels == 14


def test_integer_images_are_refused(cls):
    with pytest.raises(TypeError, match='expected a floating point input'):
        cls(4, 6, 3)(torch.zeros(1, 4, 8, 8, dtype=torch.int32))
