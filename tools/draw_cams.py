#!/usr/bin/env python
"""Draw where trained models look, side by side: python tools/draw_cams.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...] --classes NAME --out cams.png.

Grad-CAM at the last block of layer4 for the class that is right (the paper's Fig. 6): a row for every test image, a column for every model. Every
image goes through the networks alone.
"""

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path

from metricconv_mm.integrations.mm import trained
from metricconv_mm.visualization import CamRow, class_activation, draw_cams, save_figure, short_names, target_layer


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', metavar='CONFIG CHECKPOINT', help='a model a pair; the images are those of the first config')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--indices', nargs='+', type=int, metavar='N', help='these test images')
    what.add_argument('--classes', nargs='+', metavar='NAME', help='the first test images of these classes')
    parser.add_argument('--images-per-class', type=int, default=5, metavar='N', help='how many of each class (default: 5)')
    parser.add_argument('--layer', metavar='NAME', help='layer whose output is weighted (default: the last block of layer4)')
    parser.add_argument('--target', metavar='NAME', help="class whose evidence is drawn, or 'predicted' (default: the right one)")
    parser.add_argument('--labels', nargs='+', metavar='NAME', help='headings of the columns (default: what tells the configs apart)')
    parser.add_argument('--out', default='cams.png', help='picture to write (default: cams.png)')
    args = parser.parse_args()
    if len(args.models) % 2:
        parser.error(f'expected pairs of a config and a checkpoint, got {len(args.models)} files: {" ".join(args.models)}')
    args.models = list(zip(args.models[::2], args.models[1::2], strict=True))
    if args.labels and len(args.labels) != len(args.models):
        parser.error(f'--labels: expected {len(args.models)}, one for each model, got {len(args.labels)}')
    if args.images_per_class < 1:
        parser.error(f'--images-per-class: expected at least 1, got {args.images_per_class}')
    return args


def headings(models):
    """The parts of the configs' names that differ; where the configs have the same name, what tells the checkpoints apart."""
    names = [Path(config).stem for config, _ in models]
    if len(names) == 1:
        return names
    if len(set(names)) < len(names):
        return short_names([checkpoint for _, checkpoint in models])
    fields = [name.split('_') for name in names]
    if len({len(own) for own in fields}) > 1:
        return names
    different = [index for index, column in enumerate(zip(*fields, strict=True)) if len(set(column)) > 1]
    return ['_'.join(own[index] for index in different) for own in fields]


def class_index(name, classes):
    by_name = {own.lower(): index for index, own in enumerate(classes)}
    if name.lower() not in by_name:
        close = get_close_matches(name.lower(), by_name, n=3)
        shown = [classes[by_name[own]] for own in close] or list(classes)
        sys.exit(f'no class {name!r}: {"do you mean" if close else "there are"} {", ".join(shown[:20])}{", ..." if len(shown) > 20 else ""}')
    return by_name[name.lower()]


def chosen(args, dataset, classes):
    """The numbers of the test images to draw."""
    if args.indices:
        return args.indices
    labels = dataset.get_gt_labels()
    indices = []
    for name in args.classes:
        found = [int(index) for index in (labels == class_index(name, classes)).nonzero()[0][: args.images_per_class]]
        if not found:
            sys.exit(f'the test set has no image of the class {name!r}')
        indices += found
    return indices


def main():
    args = parse_arguments()
    try:
        names = args.labels or headings(args.models)
        configs, models = zip(*(trained.load_trained(*pair) for pair in args.models), strict=True)
        dataset = trained.test_set(configs[0])
        classes = dataset.metainfo['classes']
        for (config, _), model in zip(args.models, models, strict=True):
            known = getattr(getattr(model, 'head', None), 'num_classes', len(classes))
            if known != len(classes):
                sys.exit(f'{config} has {known} classes, the test set of {args.models[0][0]} has {len(classes)}')
        layers = [target_layer(model, args.layer)[1] for model in models]
        rows = []
        for index in chosen(args, dataset, classes):
            sample = trained.image_of(dataset, index)
            label = int(sample['data_samples'].gt_label)
            target = label if args.target is None else None if args.target == 'predicted' else class_index(args.target, classes)
            inputs = [trained.input_of(model, sample) for model in models]
            maps = [class_activation(model, input, layer, target) for model, input, layer in zip(models, inputs, layers, strict=True)]
            rows.append(CamRow(trained.picture_of(models[0], sample), label, maps))
        save_figure(draw_cams(rows, names, classes), args.out)
    except (FileNotFoundError, ValueError, ImportError) as error:
        sys.exit(str(error))
    print(f'class activation maps: {args.out}')


if __name__ == '__main__':
    main()
