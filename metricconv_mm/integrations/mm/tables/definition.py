"""What a table consists of, read from configs/tables/NAME.yml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import mmengine

AXES = ('dataset', 'method', 'setting', 'depth')
KEYS = ('caption', 'config', 'suffixes', 'fixed', 'levels', 'cells')


class Score(NamedTuple):
    """A mean over runs in %, and their standard deviation where there is one."""

    mean: float
    std: float | None = None

    def __str__(self) -> str:
        return f'{self.mean:.2f}' + (f' ± {self.std:.2f}' if self.std is not None else '')


@dataclass(frozen=True)
class Cell:
    """One network on one data set, and what the paper says about it."""

    dataset: str
    method: str
    setting: str
    depth: int
    config: Path
    paper: dict[str, Score] = field(hash=False)
    """by metric, 'top1' and 'top5'; empty where the paper has no number"""

    @property
    def name(self) -> str:
        return self.config.stem


@dataclass(frozen=True)
class Table:
    name: str
    source: str
    """what :func:`load_table` finds it by, from any folder"""
    caption: str
    cells: list[Cell]

    def select(self, **chosen: Sequence[Any] | None) -> list[Cell]:
        """The cells with these values of ``dataset``, ``method``, ``setting`` and ``depth``; None is all.

        Raises:
            ValueError: for a value that no cell has, with those that there are, and where no cell has all of them.
        """
        for axis, values in chosen.items():
            known = list(dict.fromkeys(getattr(cell, axis) for cell in self.cells))
            if unknown := [value for value in values or () if value not in known]:
                raise ValueError(f'{self.name} has no {axis} {unknown[0]!r}: choose from {", ".join(map(str, known))}')
        cells = [cell for cell in self.cells if all(values is None or getattr(cell, axis) in values for axis, values in chosen.items())]
        if not cells:
            raise ValueError(f'{self.name} has no cell with all of { ({axis: values for axis, values in chosen.items() if values}) }')
        return cells


def known_tables(root: Path) -> dict[str, Path]:
    """The definitions under ``root``/configs/tables, by name."""
    return {path.stem: path for path in sorted((root / 'configs' / 'tables').glob('*.yml'))}


def load_table(name: str | Path, root: Path) -> Table:
    """A table by its name, or from a .yml file of one's own; paths of configs are relative to ``root``.

    Its ``cells`` are nested: one level for each of ``levels``, then the paper's number: a mean, or [mean, std], of top-1, or both by metric. A list
    in place of the last level names cells without numbers. ``config`` is a template of all axes, and of the ``suffix`` that belongs to the setting.

    Raises:
        ValueError: for an unknown name, with those that there are, or a file that does not define a table.
    """
    path = Path(name) if Path(name).suffix == '.yml' else known_tables(root).get(str(name))
    if path is None or not path.is_file():
        raise ValueError(f'no table {str(name)!r}: choose from {", ".join(known_tables(root))}, or give a .yml file')
    raw = mmengine.load(path)
    if not isinstance(raw, dict) or sorted(raw) != sorted(KEYS):
        found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
        raise ValueError(f'{path} defines no table: expected the keys {", ".join(KEYS)}, got {found}')
    if sorted([*raw['levels'], *raw['fixed']]) != sorted(AXES):
        raise ValueError(f'{path}: expected levels and fixed to name each of {", ".join(AXES)} once, got {raw["levels"]} and {list(raw["fixed"])}')
    cells = []
    for values, numbers in _leaves(raw['cells'], raw['levels'], raw['fixed'], path):
        if values['setting'] not in raw['suffixes']:
            raise ValueError(f'{path}: no suffix for the setting {values["setting"]!r}: expected one of {", ".join(raw["suffixes"])}')
        config = root / raw['config'].format(**values, suffix=raw['suffixes'][values['setting']])
        cells.append(Cell(**values, config=config, paper=_scores(numbers, path)))
    if doubled := {cell.name for cell in cells if sum(cell.name == other.name for other in cells) > 1}:
        raise ValueError(f'{path}: expected a config of its own for every cell, got {", ".join(sorted(doubled))} more than once')
    # the methods of a setting side by side, whatever levels say
    orders = [list(dict.fromkeys(getattr(cell, axis) for cell in cells)) for axis in ('dataset', 'depth')]
    settings = list(raw['suffixes'])
    cells.sort(key=lambda cell: (orders[0].index(cell.dataset), orders[1].index(cell.depth), settings.index(cell.setting)))
    return Table(path.stem, str(path.absolute() if Path(name).suffix == '.yml' else name), raw['caption'], cells)


def _leaves(node: Any, levels: Sequence[str], values: dict[str, Any], path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    if not levels:
        yield values, node
        return
    if isinstance(node, list) and len(levels) == 1:
        node = dict.fromkeys(node)
    if not isinstance(node, dict):
        raise ValueError(f'{path}: expected a mapping by {levels[0]} for {values}, got {node!r}')
    for key, child in node.items():
        yield from _leaves(child, levels[1:], {**values, levels[0]: key}, path)


def _scores(numbers: Any, path: Path) -> dict[str, Score]:
    if numbers is None:
        return {}
    by_metric = numbers if isinstance(numbers, dict) else {'top1': numbers}
    return {metric: _score(value, path) for metric, value in by_metric.items()}


def _score(value: Any, path: Path) -> Score:
    parts: Iterable[Any] = value if isinstance(value, list) else [value]
    try:
        return Score(*map(float, parts))
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path}: expected a number or [mean, std], got {value!r}') from error
