"""Any call on any backend, against the reference in float64.

METRICCONV_FUZZ=20000 draws so many calls at random in place of the fixed few.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metricconv_mm.ops.transforms import TRANSFORMS

from .cases import LAYOUTS, Case, check

DRAWN = int(os.environ.get('METRICCONV_FUZZ', 0))
SAMPLES = 1 << 20
pairs = {k: st.tuples(st.integers(low, high), st.integers(low, high)) for k, low, high in (('stride', 1, 3), ('padding', 0, 4), ('dilation', 1, 3))}


@st.composite
def channels(draw):
    """(inputs, outputs, groups) of a weight: dense, depthwise, depthwise with a multiplier, or grouped."""
    kind = draw(st.sampled_from(['dense', 'depthwise', 'multiplied', 'grouped']))
    if kind == 'dense':
        return draw(st.integers(1, 40)), draw(st.integers(1, 70)), 1
    if kind == 'depthwise':
        return 1, 1, draw(st.integers(1, 40))
    if kind == 'multiplied':
        return 1, draw(st.integers(2, 3)), draw(st.integers(1, 23))
    groups = draw(st.integers(2, 5))
    return draw(st.integers(1, 40 // groups)), draw(st.integers(1, 70 // groups)), groups


@st.composite
def calls(draw):
    name = draw(st.sampled_from(list(TRANSFORMS)))
    inputs, outputs, groups = draw(channels())
    size, kernel = draw(st.tuples(st.integers(1, 20), st.integers(1, 20))), draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    supports = ['polar', 'grid', *(['onion'] if kernel[0] == kernel[1] and kernel[0] % 2 else [])]
    divisors = [d for d in range(1, inputs * groups + 1) if inputs * groups % d == 0]
    geometry = {key: draw(strategy) for key, strategy in pairs.items()}
    # as much padding as it takes for a window to fit
    needed = [(d * (k - 1) + 2 - s) // 2 for d, k, s in zip(geometry['dilation'], kernel, size, strict=True)]
    geometry['padding'] = tuple(map(max, geometry['padding'], needed))
    case = Case(
        name=name,
        images=0,
        size=size,
        kernel=kernel,
        **geometry,
        inputs=inputs,
        outputs=outputs,
        groups=groups,
        parameter_groups=draw(st.sampled_from(divisors)),
        support=draw(st.sampled_from(supports)),
        dtype=draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])),
        precise_parameter=draw(st.booleans()),
        masked=draw(st.booleans()),
        biased=draw(st.booleans()),
        spread=draw(st.sampled_from([0.5, 2.0, 8.0])),
        positions=draw(st.sampled_from(['inside', 'inside', 'far', 'nan'])),
        spoiled=draw(st.sampled_from([None, None, float('nan'), float('inf')])),
        layouts=draw(st.tuples(*[st.sampled_from(LAYOUTS)] * 6)),
        needs=draw(st.one_of(st.just((True,) * 5), st.tuples(*[st.booleans()] * 5))),
        threads=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**31)),
    )
    per_image = case.channels * case.taps * case.output[0] * case.output[1]
    return Case(**{**vars(case), 'images': min(draw(st.integers(0, 5)), max(1, SAMPLES // per_image))})


@pytest.mark.usefixtures('backend', 'poisoned_memory')
@settings(
    max_examples=DRAWN or 300,
    deadline=None,
    derandomize=not DRAWN,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(case=calls())
def test_any_call_is_the_references(case):
    check(case)
