#!/usr/bin/env python
"""Upgrade a trained model: python tools/upgrade_model.py CONFIG CHECKPOINT --layers 'layer[3-4]' --out upgraded, or --timm NAME --checkpoint FILE."""

import argparse
import ast
import logging
import sys
from pathlib import Path

import torch

from metricconv_mm.integrations import upgrade
from metricconv_mm.surgery import convert
from metricconv_mm.transfer import load_pretrained, read_checkpoint, weights_of

SNIPPET = '''"""{name} with {conv}, as tools/upgrade_model.py converted it: python {file} prints its adaptive layers."""

from pathlib import Path

import timm
import torch

from metricconv_mm.surgery import convert

WEIGHTS = Path(__file__).with_suffix('.pth')


def build(weights=WEIGHTS):
    model = convert(timm.create_model({name!r}, num_classes={classes}), **{conversion!r})
    model.load_state_dict(torch.load(weights, map_location='cpu', weights_only=True)['state_dict'])
    return model


if __name__ == '__main__':
    print(build())
'''


def parse_arguments():
    parser = argparse.ArgumentParser(description='Write a config and a checkpoint of an adaptive model that computes what a trained one does')
    parser.add_argument('config', nargs='?', help='config of any OpenMMLab model')
    parser.add_argument('checkpoint', nargs='?', help='its weights, also under the names of torchvision or timm')
    parser.add_argument('--timm', metavar='NAME', help='upgrade this timm model instead; writes a Python file in place of a config')
    parser.add_argument('--checkpoint', dest='timm_checkpoint', metavar='FILE', help='weights of the timm model (default: its pretrained ones)')
    parser.add_argument('--classes', type=int, metavar='N', help='number of classes of the timm model (default: its own)')
    parser.add_argument('--conv', default='MetricConv', help='MetricConv, ShiftedConv, DeformConv or another registered one (default: MetricConv)')
    parser.add_argument('--layers', nargs='+', help='names, parts or regular expressions of what to convert (default: all but 1 x 1)')
    parser.add_argument('--kernel-sizes', nargs='+', type=int, metavar='K', help='convert these alone')
    parser.add_argument('--support', help="support of MetricConv; 'grid', the default, is the one that starts losslessly")
    parser.add_argument('--conv-options', nargs='+', default=[], metavar='KEY=VALUE', help='further options of the convolution, such as eps_w=1.0')
    parser.add_argument('--part', help='the part of the model that the weights are for, such as backbone')
    parser.add_argument('--image', help='compare the outputs for this image (default: a random one)')
    parser.add_argument('--size', nargs='+', type=int, default=[224], metavar='N', help='height and width to compare at (default: 224)')
    parser.add_argument('--out', default='upgraded', help='folder to write to (default: upgraded)')
    args = parser.parse_args()
    if bool(args.timm) == bool(args.config):
        parser.error('give a config and a checkpoint, or --timm NAME')
    if args.config and not args.checkpoint:
        parser.error('the checkpoint is missing: tools/upgrade_model.py CONFIG CHECKPOINT')
    return args


def conversion(args):
    options = {}
    for item in args.conv_options:
        key, equals, value = item.partition('=')
        if not equals:
            sys.exit(f'--conv-options: expected KEY=VALUE, got {item!r}')
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    if args.support or args.conv in ('MetricConv', 'MetricConv2d'):
        options.setdefault('support', args.support or 'grid')
    chosen = {'layers': args.layers, 'kernel_sizes': args.kernel_sizes}
    return {'conv': args.conv, **{key: value for key, value in chosen.items() if value}, **options}


def test_image(args):
    """uint8 [3, H, W], RGB."""
    height, width = (args.size * 2)[:2]
    if not args.image:
        return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    from torchvision.io import ImageReadMode, read_image
    from torchvision.transforms.functional import resize

    try:
        return resize(read_image(args.image, ImageReadMode.RGB), [height, width])
    except RuntimeError as error:
        sys.exit(f'--image {args.image!r} cannot be read: {error}')


def upgrade_config(args):
    from mmengine.config import Config

    if not Path(args.config).is_file():
        sys.exit(f'no config {args.config!r}')
    cfg = Config.fromfile(args.config)
    if cfg.get('model') is None:
        sys.exit(f'{args.config} describes no model: expected model = dict(type=...)')
    options = conversion(args)
    target = Path(args.out) / f'{Path(args.config).stem}_{options["conv"].lower()}'
    checkpoint = read_checkpoint(args.checkpoint)
    old = upgrade.build(cfg)
    load(old, weights_of(checkpoint, args.checkpoint), args.checkpoint, args.part)
    new_cfg = upgrade.upgraded_config(cfg, options, target.with_suffix('.pth').resolve())
    new, image = upgrade.build(new_cfg), test_image(args)
    report_difference(upgrade.take_over(old, new, lambda model: upgrade.mm_outputs(model, image)))
    meta = checkpoint.get('meta') if isinstance(checkpoint.get('meta'), dict) else None
    upgrade.write_checkpoint(new, target.with_suffix('.pth'), meta)
    new_cfg.dump(target.with_suffix('.py'))
    return target


def upgrade_timm(args):
    try:
        import timm
    except ImportError:
        sys.exit("--timm needs timm: pip install 'metricconv_mm[timm]'")
    if not timm.is_model(args.timm):
        similar = timm.list_models(f'*{args.timm[:6]}*')[:8]
        sys.exit(f'timm has no model {args.timm!r}' + (f': do you mean one of {", ".join(similar)}?' if similar else ''))
    options = conversion(args)
    target = Path(args.out) / f'{args.timm}_{options["conv"].lower()}'
    classes = {'num_classes': args.classes} if args.classes else {}
    old = timm.create_model(args.timm, pretrained=args.timm_checkpoint is None, **classes)
    if args.timm_checkpoint:
        load(old, weights_of(read_checkpoint(args.timm_checkpoint), args.timm_checkpoint), args.timm_checkpoint)
    new = convert(timm.create_model(args.timm, **classes), **options)
    normalise = old.default_cfg
    image = test_image(args)[None] / 255
    image = (image - torch.tensor(normalise['mean']).view(3, 1, 1)) / torch.tensor(normalise['std']).view(3, 1, 1)
    report_difference(upgrade.take_over(old, new, lambda model: model(image)))
    upgrade.write_checkpoint(new, target.with_suffix('.pth'))
    target.with_suffix('.py').write_text(
        SNIPPET.format(name=args.timm, conv=options['conv'], file=f'{target.name}.py', classes=old.num_classes, conversion=options)
    )
    return target


def load(model, weights, name, part=None):
    report = load_pretrained(model, weights, part=part)
    print(f'{name}: {report}')
    if report.dropped and not part:
        raise ValueError(
            f"{name} is for another number of classes, and its classifier would be lost. Give the number it has: num_classes in the config's head, "
            'or --classes with --timm'
        )


def report_difference(share):
    print(f'outputs before and after differ by at most {share:.1e} of their scale (allowed: {upgrade.TOLERANCE:.0e})')


def main():
    logging.basicConfig(level=logging.WARNING, format='%(message)s')
    logging.getLogger('metricconv_mm').setLevel(logging.INFO)
    args = parse_arguments()
    try:
        target = (upgrade_timm if args.timm else upgrade_config)(args)
    except (ValueError, TypeError, FileNotFoundError, NotImplementedError) as error:
        sys.exit(f'nothing written: {error}')
    print(f'wrote {target}.py and {target}.pth')


if __name__ == '__main__':
    main()
