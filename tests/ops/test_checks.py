"""Arguments that do not fit are refused, eagerly and under meta tensors in the same words."""

import pytest
import torch

from metricconv_mm.functional import metric_conv2d
from metricconv_mm.ops.transforms import TRANSFORMS

META = 'meta'


def swap(index, change):
    """Change one of (input, parameter, weight, bias, mask)."""

    def apply(tensors, geometry):
        tensors[index] = change(tensors[index])

    return apply


def set_(**changes):
    def apply(tensors, geometry):
        geometry.update(changes)

    return apply


def narrower(t):
    return t[..., :-1]


# what is done to a call that fits; the words of its error; shapes are those of conftest.py
SHAPES = {
    'input of three dimensions': (swap(0, lambda t: t[0]), r'expected input \[N, C, H, W\], got .*\[6, 6, 7\]'),
    'input channels': (swap(0, lambda t: t[:, :4]), r'expected weight .* with C_in=4.*\[4, 3, 3, 2\].*groups=2'),
    'weight of three dimensions': (swap(2, lambda t: t[0]), r'expected weight \[C_out, C_in / groups, rows, columns\], got .*\[3, 3, 2\]'),
    'empty kernel': (swap(2, lambda t: t[:, :, :0]), r'expected weight .*\[4, 3, 0, 2\]'),
    'no channels': (lambda t, _: t.__setitem__(slice(3), [t[0][:, :0], t[1], t[2][:, :0]]), r'expected weight .*\[4, 0, 3, 2\].*at least 1'),
    'no output channels': (swap(2, lambda t: t[:0]), r'expected weight .*\[0, 3, 3, 2\].*at least 1'),
    'output channels': (swap(2, lambda t: t[:3]), r'C_out divisible by groups, got .*\[3, 3, 3, 2\].*groups=2'),
    'groups': (set_(groups=3), r'with C_in=6.*got .*\[4, 3, 3, 2\].*groups=3'),
    'no groups': (set_(groups=0), r'groups=0'),
    'bias': (swap(3, lambda t: t[:3]), r'expected bias \[4\], got .*\[3\]'),
    'parameter width': (swap(1, narrower), r'expected \w+ \[2, \d+ x groups, 3, 5\].*size of the output; got \w+\.shape=\(2, \d+, 3, 4\)'),
    'parameter batch': (swap(1, lambda t: t[:1]), r'expected \w+ \[2, .*got \w+\.shape=\(1, \d+, 3, 5\)'),
    'parameter of three dimensions': (swap(1, lambda t: t[0]), r'got \w+\.shape=\(\d+, 3, 5\)'),
    'parameter channels': (swap(1, lambda t: t[:, :-1]), r'x groups, 3, 5\].*channels \(.*\) for every group of the 6 input'),
    'no parameter channels': (swap(1, lambda t: t[:, :0]), r'got \w+\.shape=\(2, 0, 3, 5\)'),
    'parameter groups': (swap(1, lambda t: torch.cat([t, t[:, : t.shape[1] // 3]], 1)), r'every group of the 6 input channels'),
    'mask width': (swap(4, narrower), r'expected mask \[2, 18, 3, 5\].*got .*\[2, 18, 3, 4\]'),
    'mask channels': (swap(4, lambda t: t[:, :6]), r'expected mask \[2, 18, 3, 5\].*got .*\[2, 6, 3, 5\]'),
    'stride': (set_(stride=(0, 1)), r'expected stride of two integers >= 1, got stride=\(0, 1\)'),
    'padding': (set_(padding=(1, -1)), r'expected padding of two integers >= 0, got padding=\(1, -1\)'),
    'dilation': (set_(dilation=(0, 1)), r'expected dilation of two integers >= 1, got dilation=\(0, 1\)'),
    'dilation beyond the image': (set_(dilation=(1, 9)), r'no window fits.*\[2, 6, 6, 7\].*dilation \(1, 9\).*more padding'),
    'empty image': (swap(0, lambda t: t[:, :, :0]), r'no window fits.*\[2, 6, 0, 7\]'),
}
TYPES = {
    'integer input': (swap(0, lambda t: t.long()), r'expected a floating point input, got .*torch\.int64'),
    'weight': (swap(2, lambda t: t.double()), r'expected weight of dtype torch\.float32, that of input, got weight\.dtype=torch\.float64'),
    'bias': (swap(3, lambda t: t.half()), r'expected bias of dtype torch\.float32.*got bias\.dtype=torch\.float16'),
    'mask': (swap(4, lambda t: t.bfloat16()), r'expected mask of dtype torch\.float32.*got mask\.dtype=torch\.bfloat16'),
    'parameter': (swap(1, lambda t: t.double()), r'expected \w+ of dtype torch\.float32.*got \w+\.dtype=torch\.float64'),
}


def outcome(operator, name, tensors, geometry, device):
    with pytest.raises((ValueError, TypeError)) as error:
        operator(name, *(None if t is None else t.to(device) for t in tensors), **geometry)
    return error.type, str(error.value)


@pytest.mark.parametrize('case', SHAPES)
def test_shapes(name, operator, draw, lopsided, case):
    change, words = SHAPES[case]
    tensors = draw(name, dtype=torch.float32)
    change(tensors, lopsided)
    with pytest.raises(ValueError, match=f'^{name}: .*{words}'):
        operator(name, *tensors, **lopsided)
    assert outcome(operator, name, tensors, lopsided, 'cpu') == outcome(operator, name, tensors, lopsided, META)


@pytest.mark.parametrize('device', ['cpu', META])
def test_gradients_that_are_not_of_the_output(name, draw, lopsided, device):
    input, parameter, weight, _, mask = (t.to(device) for t in draw(name, dtype=torch.float32))
    support = (torch.zeros(6, 3, device=device), 1e-6) if TRANSFORMS[name].norm else ()
    grad, rest = torch.zeros(2, 4, 3, 5, device=device), (*support, *lopsided.values())

    def run(grad, mask=mask):
        return getattr(torch.ops.metricconv_mm, f'{name}_backward')(grad, input, parameter, weight, mask, *rest, [True] * 4)

    assert [g.shape for g in run(grad)] == [t.shape for t in (input, parameter, weight, mask)]
    assert run(grad, None)[3].shape == (0,)
    with pytest.raises(ValueError, match=rf'^{name}: expected grad \[2, 4, 3, 5\], the shape of the output, got .*\[2, 4, 3, 4\]'):
        run(narrower(grad))
    with pytest.raises(TypeError, match=rf'^{name}: expected grad of dtype torch.float32, that of input, got .*float64'):
        run(grad.double())
    elsewhere = torch.zeros(2, 4, 3, 5, device=META if device == 'cpu' else 'cpu')
    with pytest.raises((ValueError, RuntimeError), match='device'):
        run(elsewhere)


@pytest.mark.parametrize('case', TYPES)
def test_dtypes(name, operator, draw, lopsided, case):
    change, words = TYPES[case]
    tensors = draw(name, dtype=torch.float32)
    change(tensors, lopsided)
    with pytest.raises(TypeError, match=f'^{name}: .*{words}'):
        operator(name, *tensors, **lopsided)
    assert outcome(operator, name, tensors, lopsided, 'cpu') == outcome(operator, name, tensors, lopsided, META)


@pytest.mark.parametrize('index', [1, 2, 3, 4])
def test_devices(name, operator, draw, lopsided, index):
    tensors = draw(name)
    tensors[index] = tensors[index].to(META)
    with pytest.raises(ValueError, match=rf'^{name}: expected \w+ on cpu, the device of input, got \w+\.device=meta'):
        operator(name, *tensors, **lopsided)


def test_parameter_words_are_its_own(name, operator, draw, lopsided):
    tensors = draw(name)
    tensors[1] = tensors[1][:, :1]
    metric = r'expected metric \[2, 5 x groups, .*m_xx, m_xy, m_yy, w_x, w_y.*got metric\.shape=\(2, 1, 3, 5\)'
    words = {
        'metric_conv2d': metric,
        'matsumoto_conv2d': metric,
        'shifted_conv2d': r'expected shift \[2, 2 x groups, .*dy, dx.*got shift\.shape=\(2, 1, 3, 5\)',
        'deform_conv2d': r'expected offset \[2, 12 x groups, .*dy, dx of every tap.*got offset\.shape=\(2, 1, 3, 5\)',
    }
    with pytest.raises(ValueError, match=words[name]):
        operator(name, *tensors, **lopsided)


def test_supports(draw, lopsided):
    input, metric, weight, bias, mask = draw('metric_conv2d')
    for support, words in (
        (torch.ones(5, 3, dtype=torch.float64), r'expected a reference support \[6, 3\] of \(cos, sin, radius\).*got .*\[5, 3\]'),
        ('star', r"unknown support='star': choose one of"),
        ('onion', r'expected an odd square kernel, got kernel_size=\(3, 2\)'),
    ):
        with pytest.raises(ValueError, match=words):
            metric_conv2d(input, metric, weight, bias, support=support, mask=mask, **lopsided)
    with pytest.raises(ValueError, match=r'expected weight \[C_out, C_in / groups, rows, columns\]'):
        metric_conv2d(input, metric, weight[0], bias, **lopsided)


def test_norms(draw, lopsided):
    input, metric, weight, bias, mask = draw('metric_conv2d')
    with pytest.raises(ValueError, match=r"unknown norm='kropina': choose one of \['matsumoto', 'randers'\]"):
        metric_conv2d(input, metric, weight, bias, support='grid', mask=mask, norm='kropina', **lopsided)
