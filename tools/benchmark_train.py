#!/usr/bin/env python
"""What a training step of ResNet-18 costs with every convolution, side by side: python tools/benchmark_train.py (the paper's Table 9).

The networks are those of configs/_base_/models, adaptive in layer2-4, on random images; a step is forward, cross-entropy, backward and Adam. Steps
of the sides interleave, so that whatever slows the machine slows all; peak memory is that of one step in a fresh process, model and optimizer
included. 'torchvision' is the metric network with its samples handed to torchvision.ops.deform_conv2d. Run it on a machine that does nothing else.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import metricconv_mm.integrations.mm  # noqa: F401  registers the backbones
from metricconv_mm import MetricConv2d

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks is a folder of the repository, not of the package

from benchmarks import machine, memory, timing  # noqa: E402

SIDES = ('standard', 'deform', 'shifted', 'metric', 'torchvision')
QUICK = {'width': 4, 'batch_size': 2, 'size': 16, 'rounds': 3, 'seconds': 0.0}
FULL = {'width': 64, 'batch_size': None, 'size': 32, 'rounds': 15, 'seconds': 60.0}


class TorchvisionMetricConv2d(MetricConv2d):
    """A metric convolution as one would build it from torchvision: its samples as offsets, which are kept for backward."""

    def convolve(self, input, raw, mask, padding):
        from torchvision.ops import deform_conv2d

        samples = self._grouped_samples(raw).unflatten(1, (self.parameter_groups, self.taps))
        offset = (samples - self.grid(samples)).flip(3).flatten(1, 3).to(input.dtype)
        return deform_conv2d(input, offset, self.weight, self.bias, self.stride, padding, self.dilation, mask)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sides', nargs='+', choices=SIDES, default=list(SIDES), help='only these')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--amp', action='store_true', help='under autocast: bfloat16 on the CPU, float16 on a GPU')
    parser.add_argument('--batch-size', type=int, help='128 on a GPU, as in the paper; 32 on the CPU')
    parser.add_argument('--size', type=int, help='of the images (32)')
    parser.add_argument('--width', type=int, help='channels of the first stage (64)')
    parser.add_argument('--rounds', type=int, help='steps of each side (15)')
    parser.add_argument('--seconds', type=float, help=f'that a side takes in all, but for its least {timing.LEAST_RUNS} steps (60)')
    parser.add_argument('--epoch', type=int, default=50000, metavar='IMAGES', help='of an epoch (%(default)d, as in CIFAR)')
    parser.add_argument('--quick', action='store_true', help='a tiny network and few steps, to see that everything runs: not to be quoted')
    parser.add_argument('--output', type=Path, help='JSON file to write')
    parser.add_argument('--peak-of', choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch sees no GPU')
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.batch_size = args.batch_size or (128 if args.device == 'cuda' else 32)
    for name in ('batch_size', 'size', 'width', 'rounds', 'epoch'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")}: expected at least 1, got {getattr(args, name)}')
    if args.amp and args.device == 'cpu' and 'torchvision' in args.sides:
        print('torchvision sits out: its deform_conv2d crashes under autocast on the CPU')
        args.sides.remove('torchvision')
    return args


def build(side, args):
    """The network of a side; those of the same convolution start alike."""
    cfg = Config.fromfile(ROOT / f'configs/_base_/models/resnet18_{"metric" if side == "torchvision" else side}.py')
    cfg.model.backbone.update(base_channels=args.width, stem_channels=args.width)
    cfg.model.head.in_channels = 8 * args.width
    if side == 'torchvision':
        cfg.model.backbone.adaptive_cfg.type = TorchvisionMetricConv2d
    torch.manual_seed(0)
    return MODELS.build(cfg.model).to(args.device)


def training_step(side, args):
    """A function that trains the network of a side on one batch, always the same."""
    model = build(side, args).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4)
    images = torch.randn(args.batch_size, 3, args.size, args.size, device=args.device)
    labels = torch.randint(10, (args.batch_size,), device=args.device)

    def step():
        optimizer.zero_grad()
        with torch.autocast(args.device, enabled=args.amp):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    return step


def require_same_samples(args):
    """Exit unless the network built on torchvision computes what the metric one does."""
    images = torch.randn(2, 3, args.size, args.size, device=args.device)
    with torch.no_grad():
        ours, theirs = (build(side, args).eval()(images) for side in ('metric', 'torchvision'))
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * ours.abs().max().item()):
        sys.exit(f'the metric network differs from the one built on torchvision by {(ours - theirs).abs().max():.3g}: not timed')


def print_peak(args):
    # what libraries allocate at their first use does not count
    training_step(args.peak_of, argparse.Namespace(**{**vars(args), 'width': 4, 'batch_size': 2, 'size': 16}))()
    before = memory.in_use(args.device)
    step = training_step(args.peak_of, args)
    memory.forget_peak(args.device)
    step()
    print(memory.peak_of_process(args.device) - before)


def measure_peak(side, arguments):
    done = subprocess.run([sys.executable, __file__, *arguments, '--peak-of', side], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'the peak of {side} cannot be measured:\n{done.stderr}')
    return int(done.stdout.splitlines()[-1])


def ratio(results, above, below):
    return f'{results[above]["median_ms"] / results[below]["median_ms"]:.2f}' if above in results and below in results else ''


def report(results, args):
    print(f'{"":12}{"step, ms (quartiles)":>28}{"/ standard":>12}{"torchvision /":>15}{"epoch, s":>10}{"peak, MiB":>11}')
    for side, r in results.items():
        time = f'{r["median_ms"]:.1f} ({r["low_ms"]:.1f}-{r["high_ms"]:.1f})'
        slower, faster = ratio(results, side, 'standard'), ratio(results, 'torchvision', side)
        print(f'{side:12}{time:>28}{slower:>12}{faster:>15}{r["epoch_s"]:>10.0f}{r["peak_bytes"] / 2**20:>11.0f}')


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parse_arguments(arguments)
    init_default_scope('mmpretrain')
    if args.peak_of:
        print_peak(args)
        return
    conditions = machine.describe(args.device)
    if {'metric', 'torchvision'} <= set(args.sides):
        require_same_samples(args)
    steps = {side: training_step(side, args) for side in args.sides}
    times = timing.interleave(steps, rounds=args.rounds, seconds=args.seconds, clock=timing.clock_of(args.device))
    per_epoch = math.ceil(args.epoch / args.batch_size)
    results = {}
    for side in args.sides:
        summary = timing.summary(times[side])
        results[side] = {**summary, 'epoch_s': per_epoch * summary['median_ms'] / 1e3, 'peak_bytes': measure_peak(side, arguments)}
    settings = {name: getattr(args, name) for name in ('device', 'amp', 'batch_size', 'size', 'width', 'rounds', 'seconds', 'epoch')}
    print(f'{conditions["gpu"] or conditions["cpu"]}, {conditions["threads"]} threads, torch {conditions["torch"]}, {settings}')
    report(results, args)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps({'machine': conditions, 'settings': settings, 'sides': results}, indent=2) + '\n')
        print(f'written to {args.output}')


if __name__ == '__main__':
    main()
