"""mmengine's counter of FLOPs, which tools/analysis_tools/get_flops.py of every OpenMMLab project uses, knows the operators from here on.

It counts a multiplication and an addition as one, and 4 for every value interpolated from an image, as in its rule for grid_sampler: an adaptive
convolution is its contraction, as nn.Conv2d, and 4 for each of the K C_in samples of an output pixel. Predictors are counted as convolutions.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

from mmengine.analysis import complexity_analysis
from mmengine.analysis.jit_handles import generic_activation_jit, get_shape

from ...ops.flops import contraction
from ...ops.transforms import TRANSFORMS

INTERPOLATION = 4


def _count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    input, weight, out = (get_shape(value) for value in (inputs[0], inputs[2], outputs[0]))
    assert input is not None and weight is not None and out is not None
    samples = out[0] * prod(out[2:]) * input[1] * prod(weight[2:])
    return Counter({'conv': contraction(weight, out), 'sampling': INTERPOLATION * samples})


for _name in TRANSFORMS:
    complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS[f'metricconv_mm::{_name}'] = _count
    complexity_analysis._DEFAULT_SUPPORTED_ACT_OPS[f'metricconv_mm::{_name}'] = generic_activation_jit('conv')
