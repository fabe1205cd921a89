"""The tutorial's blocks of code, in the order in which a reader runs them."""

import re
from pathlib import Path

import pytest

for needed in ('matplotlib', 'timm', 'mmpretrain'):
    pytest.importorskip(needed)
TUTORIAL = Path(__file__).resolve().parents[2] / 'docs/tutorial.md'


def test_every_block_runs_and_the_figures_are_those_shown(tmp_path, monkeypatch, capsys):
    text = TUTORIAL.read_text()
    code = '\n'.join(re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL))
    assert code.count('\nsteps = 300\n') == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace('\nsteps = 300\n', '\nsteps = 2\n'), str(TUTORIAL), 'exec'), {'__name__': 'tutorial'})
    shown = set(re.findall(r'!\[.*?\]\((.*?)\)', text))
    assert shown and shown == {str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*') if path.is_file()}
    assert all((TUTORIAL.parent / path).is_file() for path in shown)
    # what the text says of the special cases and of conversion
    differences = [float(found) for found in re.findall(r'largest difference (\S+)', capsys.readouterr().out)]
    assert len(differences) == 4 and max(differences) < 1e-3
