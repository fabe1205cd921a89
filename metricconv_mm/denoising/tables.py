"""Tables of many runs: what is done is kept in a file a run, and stands beside what the paper prints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Results:
    """A folder with a JSON file for every finished run; a run that was killed has none, and a file is never half written."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f'no folder for results can be made at {str(folder)!r} ({error.strerror}): choose another one') from error

    def load(self, name: str, settings: dict[str, Any]) -> dict[str, Any] | None:
        """The result of a finished run, or None.

        Settings that a file does not name are not compared: it may be from before they were recorded.

        Raises:
            ValueError: when the run was made with other settings, or its file cannot be read.
        """
        path = self.folder / f'{name}.json'
        return _compared(path, settings, 'the file') if path.is_file() else None

    def begin(self, name: str, settings: dict[str, Any]) -> None:
        """Record what a run is made with before it starts, for those that go on from checkpoints of their own in the folder ``name``.

        Raises:
            ValueError: when what is left of the run there was begun with other settings.
        """
        path = self.folder / name / 'settings.json'
        if path.is_file():
            _compared(path, settings, f'the folder {path.parent}')
        path.parent.mkdir(exist_ok=True)
        _write(path, {'settings': settings})

    def save(self, name: str, settings: dict[str, Any], result: dict[str, Any]) -> None:
        _write(self.folder / f'{name}.json', {'settings': settings, **result})


def _compared(path: Path, settings: dict[str, Any], what: str) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
        differing = {key: (result['settings'][key], value) for key, value in settings.items() if result['settings'].get(key, value) != value}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path} is no result of a run ({type(error).__name__}: {error}): remove it to run it again') from error
    if differing:
        changes = ', '.join(f'{key} {old} there and {new} now' for key, (old, new) in differing.items())
        raise ValueError(f'{path} was made with other settings: {changes}. Choose another folder, or remove {what}')
    return result


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f'.{path.name}')
    temporary.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(temporary, path)


def load_paper(path: str | Path, experiment: str) -> dict[str, Any]:
    """The paper's numbers for one experiment of ``configs/denoising/paper.json``: 'lr', 'test_mse' and 'gap', by sigma, method and kernel size.

    Raises:
        ValueError: when the file or the experiment is missing.
    """
    try:
        return json.loads(Path(path).read_text())[experiment]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f'{path} has no numbers of the paper for {experiment!r} ({type(error).__name__}: {error})') from error


def paper_value(paper: dict[str, Any], what: str, sigma: float, method: str, kernel_size: int) -> float | None:
    """One of the paper's numbers, or None where it has none."""
    return paper[what].get(f'{sigma:g}', {}).get(method, {}).get(str(kernel_size))


def comparison(
    rows: Sequence[tuple[str, Any]],
    columns: Sequence[tuple[str, Any]],
    measured: Callable[[Any, Any], float | None],
    paper: Callable[[Any, Any], float | None],
    errors: bool = True,
) -> str:
    """A Markdown table of 'measured / paper' with a dash for what is missing; rows and columns are (label, key). Errors have powers of ten."""

    def number(value: float | None) -> str:
        if value is None:
            return '-'
        if errors and 0 < abs(value) < 0.1:
            return f'{value:.2e}'.replace('e-0', 'e-')
        return f'{round(value, 4):.3g}' if abs(value) < 1000 else f'{value:.0f}'

    lines = ['| | ' + ' | '.join(label for label, _ in columns) + ' |', '|---' * (len(columns) + 1) + '|']
    for label, row in rows:
        lines.append(f'| {label} | ' + ' | '.join(f'{number(measured(row, column))} / {number(paper(row, column))}' for _, column in columns) + ' |')
    return '\n'.join(lines)
