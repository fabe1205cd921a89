"""Results as data, in OpenMMLab's metafiles, and the README's table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmengine

from .collecting import Row
from .records import read_description

INDEX = 'model-index.yml'
MARKERS = ('<!-- zoo: written by tools/zoo.py from the metafiles -->', '<!-- end of zoo -->')
COLLECTION = 'Metric Convolutions'
NAMES = {'top1': 'Top 1 Accuracy', 'top5': 'Top 5 Accuracy'}
CONDITIONS = ('Training Data', 'Epochs', 'Seeds', 'Training Resources', 'Command')


def read_models(root: Path) -> list[dict[str, Any]]:
    """The models of all metafiles that ``root``/model-index.yml imports.

    Raises:
        ValueError: for a model without a config that is there, without a result, or whose result lacks a condition.
    """
    models = [model for name in mmengine.load(root / INDEX)['Import'] for model in mmengine.load(root / name)['Models']]
    for model in models:
        name = model.get('Name', '?')
        if not (root / model.get('Config', '?')).is_file():
            raise ValueError(f'{name}: no config {model.get("Config")!r}')
        if missing := [key for key in CONDITIONS if not model.get('Metadata', {}).get(key)]:
            raise ValueError(f'{name}: expected Metadata with {", ".join(CONDITIONS)}; missing: {", ".join(missing)}')
        if not model.get('Results') or any(NAMES['top1'] not in result.get('Metrics', {}) for result in model['Results']):
            raise ValueError(f'{name}: expected Results whose Metrics have {NAMES["top1"]!r}')
    return models


def zoo_table(models: list[dict[str, Any]]) -> str:
    """The models as a Markdown table, in the order of the metafiles."""
    rows = []
    for model in models:
        given = model['Metadata']
        for result in model['Results']:
            metrics = result['Metrics']
            scores = [_score(metrics, name) for name in NAMES.values()]
            seeds = ', '.join(map(str, given['Seeds']))
            link = f'[{model["Name"]}]({model["Config"]})'
            rows.append([link, *scores, str(given['Epochs']), seeds, given['Training Resources']])
    header = ['config', 'top-1, %', 'top-5, %', 'epochs', 'seeds', 'on']
    rule = ['---', '--:', '--:', '--:', '---', '---']
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in [header, rule, *rows])


def _score(metrics: dict[str, float], name: str) -> str:
    if name not in metrics:
        return ''
    spread = metrics.get(f'{name} Std')
    return f'{metrics[name]:.2f}' + (f' ± {spread:.2f}' if spread is not None else '')


def with_table(page: str, table: str) -> str:
    """The page with this table between its markers.

    Raises:
        ValueError: when the markers are not there, once each and in order.
    """
    start, end = MARKERS
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise ValueError(f'expected the lines {start!r} and {end!r} once each')
    return page[: page.index(start) + len(start)] + f'\n\n{table}\n\n' + page[page.index(end) :]


def entry(row: Row, work_dir: Path, root: Path) -> dict[str, Any]:
    """A cell whose runs are done as a model of a metafile: means over its seeds, and the command that trains it again."""
    descriptions = [read_description(work_dir / row.cell.name / f'seed_{found.seed}') for found in row.done]
    first, seeds = descriptions[0], [found.seed for found in row.done]
    machines = sorted({'{device}, {cores} cores, torch {torch}'.format(**description['machine']) for description in descriptions})
    command = f'python tools/run_table.py {Path(first["table"]).name} --datasets {row.cell.dataset} --methods {row.cell.method}'
    command += f' --settings {row.cell.setting} --depths {row.cell.depth} --seeds {" ".join(map(str, seeds))}'
    command += f' --cfg-options {" ".join(first["options"])}' if first['options'] else ''
    metrics = {}
    for metric, name in NAMES.items():
        if score := row.score(metric):
            metrics[name] = round(score.mean, 2)
            if score.std is not None:
                metrics[f'{name} Std'] = round(score.std, 2)
    config = row.cell.config
    return {
        'Name': row.cell.name,
        'In Collection': COLLECTION,
        'Config': str(config.relative_to(root) if config.is_relative_to(root) else config),
        'Metadata': {
            'Training Data': row.cell.dataset,
            'Epochs': first['epochs'],
            'Seeds': seeds,
            'Training Resources': '; '.join(machines),
            'Command': command,
        },
        'Results': [{'Task': 'Image Classification', 'Dataset': row.cell.dataset, 'Metrics': metrics}],
    }


def add_results(rows: list[Row], work_dir: Path, metafile: Path, root: Path) -> list[str]:
    """Put every cell of which all runs are done into the metafile, in place of what it says of the same config; returns their names."""
    contents = mmengine.load(metafile)
    finished = [row for row in rows if row.done and len(row.done) == len(row.outcomes)]
    models = {model['Name']: model for model in contents['Models']}
    models.update({row.cell.name: entry(row, work_dir, root) for row in finished})
    contents['Models'] = list(models.values())
    mmengine.dump(contents, metafile, sort_keys=False, allow_unicode=True)
    return [row.cell.name for row in finished]
