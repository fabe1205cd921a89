#!/usr/bin/env python
"""Whether a detector and a segmenter lose anything by being upgraded: python tools/finetune_upgraded.py, about six minutes of one core.

Scenes with garments of Fashion-MNIST pasted on a canvas, so that boxes and masks are known. A standard RetinaNet (box AP) and a standard FCN (mIoU),
both torchvision's on timm's ResNet-18 of a quarter of the width, are trained until they work. Each is then fine-tuned as it is, or upgraded with
support='grid' first: the same scenes in the same order, the same schedule, predictors at a tenth of the rate.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import timm
import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.segmentation.fcn import FCN, FCNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.transforms.functional import resize

from metricconv_mm import AdaptiveConv2d
from metricconv_mm.integrations.mm.datasets import read_idx
from metricconv_mm.integrations.upgrade import difference
from metricconv_mm.surgery import convert

try:
    from torchmetrics.detection import MeanAveragePrecision
    from torchmetrics.segmentation import MeanIoU
except ImportError as error:
    sys.exit(f"{error}: pip install 'metricconv_mm[eval]', or pip install torchmetrics pycocotools")

DATA = Path(__file__).resolve().parent.parent / 'data/fashion_mnist_12k'
GARMENTS = {0: 'T-shirt', 1: 'trousers', 7: 'sneaker', 8: 'bag'}
SIZE, WIDTHS, NECK = 64, (16, 32, 64, 128), 32
CONVERTED = {'detector': ['layer[2-4]', 'fpn'], 'segmenter': ['layer[2-4]', 'classifier']}
METRICS = {'detector': 'box AP', 'segmenter': 'mIoU'}


def scene(images, labels, generator):
    """An image ``[3, S, S]`` in [0, 1] of one to three garments, their boxes and labels from 1 on, and the class of every pixel."""

    def draw(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    ramp = torch.linspace(0, 1, SIZE)
    tilt = torch.rand(3, 2, 1, 1, generator=generator) - 0.5
    canvas = 0.3 + 0.4 * (tilt[:, 0] * ramp + tilt[:, 1] * ramp[:, None]) + 0.08 * torch.randn(3, SIZE, SIZE, generator=generator)
    classes, boxes, found = torch.zeros(SIZE, SIZE, dtype=torch.long), [], []
    for _ in range(draw(1, 4)):
        index, side = draw(0, len(images)), draw(20, 37)
        top, left = draw(0, SIZE - side + 1), draw(0, SIZE - side + 1)
        garment = resize(images[index][None], [side, side], antialias=True)[0].float() / 255
        covered = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        covered[top : top + side, left : left + side] = garment > 0.1
        rows, columns = covered.any(1).nonzero(), covered.any(0).nonzero()
        box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        if any(min(box[2], other[2]) > max(box[0], other[0]) and min(box[3], other[3]) > max(box[1], other[1]) for other in boxes):
            continue  # what is hidden has no box of its own
        tint = 0.5 + 0.5 * torch.rand(3, 1, 1, generator=generator)
        pasted = torch.zeros(SIZE, SIZE)
        pasted[top : top + side, left : left + side] = garment
        canvas = torch.where(covered, tint * pasted, canvas)
        classes[covered] = labels[index]
        boxes.append(box)
        found.append(int(labels[index]))
    return canvas.clamp(0, 1), {'boxes': torch.tensor(boxes).float(), 'labels': torch.tensor(found)}, classes


def scenes(split, count, seed):
    """``count`` scenes with garments of one split of data/fashion_mnist_12k."""
    images, labels = (torch.tensor(read_idx(DATA / f'{split}-{kind}-ubyte.gz')) for kind in ('images-idx3', 'labels-idx1'))
    new = torch.zeros(10, dtype=torch.long)
    new[list(GARMENTS)] = torch.arange(1, len(GARMENTS) + 1)
    kept = new[labels.long()] > 0
    generator = torch.Generator().manual_seed(seed)
    return [scene(images[kept], new[labels[kept].long()], generator) for _ in range(count)]


class Pyramid(nn.Module):
    """timm's ResNet-18 of a quarter of the width, with torchvision's feature pyramid or (``out_channels=None``) its last stage alone."""

    def __init__(self, out_channels=None):
        super().__init__()
        stages = {'out_indices': (2, 3, 4)} if out_channels else {'out_indices': (4,), 'output_stride': 8}
        self.body = timm.create_model('resnet18', channels=WIDTHS, features_only=True, **stages)
        self.fpn = FeaturePyramidNetwork(WIDTHS[1:], out_channels) if out_channels else None
        self.out_channels = out_channels

    def forward(self, images):
        features = {'out' if self.fpn is None else str(index): feature for index, feature in enumerate(self.body(images))}
        return features if self.fpn is None else self.fpn(features)


def build(task):
    if task == 'segmenter':
        return FCN(Pyramid(), FCNHead(WIDTHS[-1], len(GARMENTS) + 1))
    anchors = AnchorGenerator(((12, 17), (24, 30), (36, 44)), ((0.5, 1.0, 2.0),) * 3)
    backbone = Pyramid(NECK)
    head = RetinaNetHead(NECK, anchors.num_anchors_per_location()[0], len(GARMENTS) + 1, norm_layer=partial(nn.GroupNorm, 8))
    still = {'image_mean': [0.0] * 3, 'image_std': [1.0] * 3, 'min_size': SIZE, 'max_size': SIZE}
    return RetinaNet(backbone, len(GARMENTS) + 1, anchor_generator=anchors, head=head, detections_per_img=20, topk_candidates=200, **still)


def loss_of(model, task, batch):
    images, targets, classes = zip(*batch, strict=True)
    if task == 'detector':
        return sum(model(list(images), list(targets)).values())
    return nn.functional.cross_entropy(model(torch.stack(images))['out'], torch.stack(classes))


def train(model, task, data, *, epochs, rate, seed, batch_size=16):
    """AdamW with a cosine after a short warm-up; returns the loss of every step."""
    predictors = [p for name, p in model.named_parameters() if 'predictor' in name]
    others = [p for name, p in model.named_parameters() if 'predictor' not in name]
    groups = [{'params': others, 'lr': rate}, *([{'params': predictors, 'lr': rate / 10}] if predictors else [])]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    steps = epochs * (len(data) // batch_size)
    warm = max(2, steps // 10)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group['lr'] for group in groups], total_steps=steps + 1, pct_start=warm / (steps + 1), cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(seed)
    losses = []
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=generator).tolist()
        for start in range(0, len(data) - batch_size + 1, batch_size):
            loss = loss_of(model, task, [data[index] for index in order[start : start + batch_size]])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return losses


@torch.no_grad()
def predict(model, task, images):
    """Boxes, labels and scores of every image, or the class of every pixel."""
    model.eval()
    if task == 'detector':
        return [found for start in range(0, len(images), 50) for found in model(list(images[start : start + 50]))]
    return [model(image[None])['out'][0].argmax(0) for image in images]


def score(task, predictions, data):
    """Box AP at IoU 0.5 to 0.95, or mIoU over the classes and the background, in per cent."""
    _, targets, classes = zip(*data, strict=True)
    if task == 'detector':
        metric = MeanAveragePrecision()
        metric.update(list(predictions), list(targets))
        return 100 * float(metric.compute()['map'])
    metric = MeanIoU(len(GARMENTS) + 1, input_format='index')
    # one picture of all: the share is that of all pixels of a class
    metric.update(torch.cat(list(predictions))[None], torch.cat(classes)[None])
    return 100 * float(metric.compute())


def evaluate(model, task, data):
    return score(task, predict(model, task, [image for image, _, _ in data]), data)


@torch.no_grad()
def raw_outputs(model, task, images):
    """What the heads give, before suppression and argmax, which rounding can reorder."""
    features = model.eval().backbone(images)
    return model.head(list(features.values())) if task == 'detector' else model.classifier(features['out'])


def experiment(task, args):
    start = time.process_time()
    training, test = scenes('train', args.scenes, 0), scenes('t10k', args.test_scenes, 1)
    torch.manual_seed(0)
    plain = build(task)
    train(plain, task, training, epochs=args.epochs, rate=args.rate, seed=0)

    def model_of(side):
        model = build(task)
        model.load_state_dict(plain.state_dict())
        return model if side == 'plain' else convert(model, 'MetricConv', CONVERTED[task], kernel_sizes=3, support='grid')

    upgraded = model_of('upgraded')
    images = torch.stack([image for image, _, _ in test[:16]])
    result = {
        'metric': METRICS[task],
        'converted': sum(isinstance(layer, AdaptiveConv2d) for layer in upgraded.modules()),
        'difference': difference(raw_outputs(plain, task, images), raw_outputs(upgraded, task, images)),
        'trained': {'plain': evaluate(plain, task, test), 'upgraded': evaluate(upgraded, task, test)},
        'finetuned': {'plain': [], 'upgraded': []},
    }
    print(
        f'{task}, {result["metric"]}; upgrading changes {result["converted"]} convolutions, and outputs by {result["difference"]:.1e} of their scale'
    )
    print('  before fine-tuning: ' + ', '.join(f'{side} {value:.2f}' for side, value in result['trained'].items()), flush=True)
    for seed in range(args.seeds):
        for side, scores in result['finetuned'].items():
            model = model_of(side)
            losses = train(model, task, training, epochs=args.finetune_epochs, rate=args.rate / 10, seed=1 + seed)
            scores.append(evaluate(model, task, test))
            print(f'  {side} fine-tuned, seed {seed}: {scores[-1]:.2f} (last loss {losses[-1]:.4f})', flush=True)
    print(f'  {time.process_time() - start:.0f} s of one core')
    return result


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tasks', nargs='+', choices=list(METRICS), default=list(METRICS), help='only these')
    parser.add_argument('--scenes', type=int, default=1000, help='to train on (default: %(default)d)')
    parser.add_argument('--test-scenes', type=int, default=400, help='to evaluate on (default: %(default)d)')
    parser.add_argument('--epochs', type=int, default=12, help='of training (default: %(default)d)')
    parser.add_argument('--finetune-epochs', type=int, default=2, help='of fine-tuning (default: %(default)d)')
    parser.add_argument('--rate', type=float, default=2e-3, help='of training; fine-tuning takes a tenth (default: %(default)g)')
    parser.add_argument('--seeds', type=int, default=2, help='fine-tunings of each side (default: %(default)d)')
    parser.add_argument('--output', type=Path, help='JSON file to write')
    args = parser.parse_args(arguments)
    if not DATA.is_dir():
        parser.error(f'no {DATA}: run it in a checkout of the repository')
    for name, least in (('scenes', 16), ('test_scenes', 1), ('epochs', 1), ('finetune_epochs', 1), ('seeds', 1)):
        if getattr(args, name) < least:
            parser.error(f'--{name.replace("_", "-")}: expected at least {least}, got {getattr(args, name)}')
    return args


def main(arguments=None):
    args = parse_arguments(arguments)
    results = {task: experiment(task, args) for task in args.tasks}
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
    main()
