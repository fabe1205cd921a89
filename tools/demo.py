#!/usr/bin/env python
"""Train a small metric ResNet-18 on real images, evaluate it and draw it: python tools/demo.py."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

# the cores may be busy with other work: threads that spin while they wait would then stop each other
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/resnet/resnet18-w16_metric-layer2-4_1xb64-3e_fashion-mnist-12k.py'


def run(*arguments):
    print('$ python', *arguments, flush=True)
    if subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT).returncode:
        sys.exit(f'the demo stopped: {arguments[0]} failed, see its message above')


def main():
    start = time.time()
    work = Path('work_dirs') / 'demo'
    run('tools/train.py', CONFIG, '--work-dir', work)
    checkpoint = (ROOT / work / 'last_checkpoint').read_text().strip()
    run('tools/test.py', CONFIG, checkpoint, '--work-dir', work / 'test', '--out', work / 'metrics.json', '--out-item', 'metrics')
    run('tools/plot_curves.py', work, '--out', work / 'curves.png')
    run('tools/draw_balls.py', CONFIG, checkpoint, '--index', 5, '--out', work / 'balls.png')
    accuracy = json.loads((ROOT / work / 'metrics.json').read_text())['accuracy/top1']
    log = max((ROOT / work).glob('*/*.log'), key=lambda path: path.stat().st_mtime)
    print(
        f'\ntest accuracy: {accuracy:.2f} %  (trained, evaluated and drawn in {time.time() - start:.0f} s)\n'
        f'log:           {log.relative_to(ROOT)}\n'
        f'curve:         {work}/curves.png\n'
        f'unit balls:    {work}/balls.png\n'
        f'checkpoint:    {Path(checkpoint).relative_to(ROOT) if Path(checkpoint).is_absolute() else checkpoint}'
    )


if __name__ == '__main__':
    main()
