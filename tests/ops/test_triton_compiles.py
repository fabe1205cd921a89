"""Triton's kernels compiled for GPUs that need not be there, with the tiles that a launch would choose."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

from metricconv_mm.ops import triton as backend

triton = pytest.importorskip('triton')
if backend.interpreted():
    pytest.skip('the interpreter compiles nothing', allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from metricconv_mm.ops.transforms import KINDS  # noqa: E402
from metricconv_mm.ops.triton import backward_kernels, forward_kernels, tiles, weight_kernels  # noqa: E402

FLOAT32, BFLOAT16, FLOAT16 = (torch.float32, 'fp32'), (torch.bfloat16, 'bf16'), (torch.float16, 'fp16')
METRIC, SHIFT, OFFSET, MATSUMOTO = (KINDS[f'{name}_conv2d'] for name in ('metric', 'shifted', 'deform', 'matsumoto'))
SHARED_MEMORY = 99 * 1024  # what every GPU since compute capability 8.0 has, the smaller ones included
SPILLED = 512  # bytes of a thread that do not fit into its registers; a layout gone wrong takes thousands
KERNELS = {
    'forward': (forward_kernels.dense_forward, tiles.forward),
    'depthwise forward': (forward_kernels.depthwise_forward, tiles.depthwise),
    'samples': (backward_kernels.backward_of_samples, tiles.samples),
    'depthwise samples': (backward_kernels.backward_of_samples, tiles.depthwise_samples),
    'weight': (weight_kernels.dense_backward_of_weight, tiles.weight),
    'depthwise weight': (weight_kernels.depthwise_backward_of_weight, tiles.depthwise),
}
# kernel, compute capability, dtype, kind, channels, outputs, and what else differs from the usual
VARIANTS = [
    ('forward', 90, BFLOAT16, METRIC, 64, 64, {}),
    ('forward', 90, FLOAT32, SHIFT, 256, 256, {'PRECISION': 'tf32'}),
    ('forward', 90, FLOAT32, METRIC, 3, 64, {}),
    ('forward', 90, FLOAT16, OFFSET, 256, 256, {'mask': None, 'bias': None}),
    ('forward', 80, BFLOAT16, OFFSET, 256, 1, {'LARGE': True}),
    ('forward', 80, FLOAT32, METRIC, 1, 32, {'mask': None}),
    ('forward', 100, BFLOAT16, SHIFT, 64, 256, {}),
    ('forward', 100, FLOAT32, METRIC, 64, 64, {'PRECISION': 'tf32', 'LARGE': True}),
    ('forward', 90, BFLOAT16, MATSUMOTO, 64, 64, {}),
    ('depthwise forward', 90, BFLOAT16, METRIC, 64, 1, {}),
    ('depthwise forward', 80, FLOAT32, OFFSET, 1, 1, {}),
    ('depthwise forward', 100, FLOAT16, SHIFT, 128, 2, {'mask': None}),
    ('samples', 90, BFLOAT16, METRIC, 64, 64, {}),
    ('samples', 90, FLOAT32, OFFSET, 256, 256, {'PRECISION': 'tf32', 'KEEP_GRAD': False}),
    ('samples', 90, FLOAT16, SHIFT, 3, 64, {'FIXED_POINT': True}),
    ('samples', 80, BFLOAT16, OFFSET, 64, 128, {'FIXED_POINT': True, 'mask': None, 'grad_mask': None}),
    ('samples', 80, FLOAT32, METRIC, 64, 64, {'LARGE': True, 'KEEP_GRAD': False}),
    ('samples', 80, FLOAT32, METRIC, 1, 32, {'PRECISION': 'tf32', 'grad_image': None}),
    ('samples', 100, BFLOAT16, METRIC, 256, 256, {'KEEP_GRAD': False}),
    ('samples', 100, FLOAT32, SHIFT, 4, 64, {'grad_parameter': None, 'grad_mask': None, 'mask': None}),
    ('samples', 90, BFLOAT16, MATSUMOTO, 64, 64, {}),
    ('samples', 80, FLOAT32, MATSUMOTO, 3, 64, {'FIXED_POINT': True}),
    ('depthwise samples', 90, BFLOAT16, METRIC, 64, 1, {}),
    ('depthwise samples', 80, FLOAT32, OFFSET, 1, 1, {'mask': None, 'grad_mask': None}),
    ('depthwise samples', 100, FLOAT16, SHIFT, 128, 2, {'FIXED_POINT': True}),
    ('weight', 90, BFLOAT16, METRIC, 64, 64, {}),
    ('weight', 90, FLOAT32, OFFSET, 256, 256, {'PRECISION': 'tf32', 'mask': None}),
    ('weight', 80, FLOAT16, SHIFT, 1, 64, {'LARGE': True}),
    ('weight', 80, FLOAT32, METRIC, 64, 128, {}),
    ('weight', 100, BFLOAT16, OFFSET, 256, 128, {}),
    ('weight', 100, FLOAT32, MATSUMOTO, 64, 64, {}),
    ('depthwise weight', 90, BFLOAT16, METRIC, 64, 1, {}),
    ('depthwise weight', 80, FLOAT32, OFFSET, 1, 1, {}),
    ('depthwise weight', 100, FLOAT16, SHIFT, 128, 2, {'mask': None}),
]
DIVISIBLE = ('channels', 'outputs', 'cell')


def compiled(name, capability, dtype, kind, channels, outputs, changes):
    """Compile with the types, constants and multiples of 16 that a launch would have."""
    kernel, choose = KERNELS[name]
    tile = choose(dtype[0], channels, outputs, 1 << 20, torch.device('cpu'))
    constants = {
        'KIND': kind, 'LARGE': False, 'PRECISION': 'ieee', 'FIXED_POINT': False, 'KEEP_GRAD': not name.startswith('depthwise'),
        'DEPTHWISE': name.startswith('depthwise'), 'ONE_BLOCK': channels <= tile.channels, **tile.blocks, **changes,
    }  # fmt: skip
    if kind in (SHIFT, OFFSET):
        constants['table'] = None
    if not constants['FIXED_POINT']:
        constants['scale'] = None
    constants |= {size: 1 for size, value in zip(DIVISIBLE, (channels, outputs, channels), strict=True) if value == 1}
    element = {**dict.fromkeys(('parameter', 'grad_parameter', 'table', 'partial', 'scale'), 'fp32'), 'grad_image': 'fp32'}
    if constants['FIXED_POINT']:
        element['grad_image'] = 'i64'
    pointers = (
        'image',
        'parameter',
        'mask',
        'table',
        'weight',
        'bias',
        'out',
        'grad',
        'grad_image',
        'grad_parameter',
        'grad_mask',
        'scale',
        'partial',
    )
    signature, aligned = {}, {}
    for i, argument in enumerate(kernel.arg_names):
        if argument in constants:
            signature[argument] = 'constexpr'
        elif argument in pointers:
            signature[argument] = f'*{element.get(argument, dtype[1])}'
        else:
            signature[argument] = 'fp32' if argument == 'eps' else 'i32'
        sizes = dict(zip(DIVISIBLE, (channels, outputs, channels), strict=True))
        if signature[argument].startswith('*') or (signature[argument] == 'i32' and sizes.get(argument, 1) % 16 == 0):
            aligned[(i,)] = [['tt.divisibility', 16]]
    constants = {argument: value for argument, value in constants.items() if argument in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget('cuda', capability, 32), options=tile.options)


def spilled(binary, tmp_path):
    """Bytes of stack of a thread, or None where triton carries no tool that says so."""
    tool = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    if not tool.exists():
        return None
    path = tmp_path / 'kernel.cubin'
    path.write_bytes(binary)
    usage = subprocess.run([tool, '--dump-resource-usage', path], capture_output=True, text=True).stdout
    return max(map(int, re.findall(r'STACK:(\d+)', usage)), default=None)


def label(variant):
    name, capability, dtype, kind, channels, outputs, _ = variant
    return f'{name}-sm_{capability}-{dtype[1]}-{tuple(KINDS)[kind]}-{channels}x{outputs}'


@pytest.mark.parametrize('variant', VARIANTS, ids=label)
def test_compiles(variant, tmp_path):
    name, dtype, changes = variant[0], variant[2], variant[-1]
    kernel = compiled(*variant)
    code = kernel.asm['ptx']
    if not name.startswith('depthwise'):
        tensor_cores = re.search(r'mma\.sync|wgmma\.mma_async|tcgen05\.mma', code) is not None
        assert tensor_cores == (dtype != FLOAT32 or changes.get('PRECISION') == 'tf32')
    assert kernel.metadata.shared <= SHARED_MEMORY
    assert (spilled(kernel.asm['cubin'], tmp_path) or 0) <= SPILLED


def test_channels_are_read_and_added_to_as_vectors():
    assert 'cp.async.cg.shared.global' in compiled('forward', 90, BFLOAT16, METRIC, 64, 64, {}).asm['ptx']
    code = compiled('samples', 90, BFLOAT16, METRIC, 64, 64, {}).asm['ptx']
    assert 'ld.global.v4.b32' in code and 'atom.global.gpu.relaxed.add.v4.f32' in code


def test_every_kernel_and_capability_is_among_the_variants():
    assert {(v[0], v[1]) for v in VARIANTS} == {(name, capability) for name in KERNELS for capability in (80, 90, 100)}
