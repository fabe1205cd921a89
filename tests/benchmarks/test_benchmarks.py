"""The benchmarks refuse what is wrong, run as a user runs them, and report what was measured; no test looks at how long anything takes."""

import ast
import copy
import json
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import cases, report, run, sides, speed
from benchmarks.problem import draw
from benchmarks.sides import CONV2D, Side, ours
from benchmarks.verify import Examination
from metricconv_mm import ops

ROOT = Path(__file__).resolve().parents[2]
SMALL = cases.Case(('headline',), 2, 4, 9, 6, stride=2)
ONCE = speed.Options(rounds=3, seconds=0.0)


@pytest.fixture(scope='module')
def quick(tmp_path_factory):
    """(result, printed) of the quick mode as a user runs it."""
    output = tmp_path_factory.mktemp('results') / 'quick.json'
    done = subprocess.run([sys.executable, '-m', 'benchmarks.run', '--quick', '--output', str(output)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_text()), done.stdout


def wrong(change):
    """metric_conv2d with its output changed: ``change(out, leaves)``."""

    def bind(problem):
        convolve, leaves = sides.OPERATIONS['metric_conv2d'](problem)
        return lambda: change(convolve(), leaves), leaves

    return Side('wrong', 'metric_conv2d', bind, backend='reference')


# --- verification -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_right_sides_pass(dtype):
    for case in (SMALL, replace(SMALL, kernel=5, stride=1), replace(SMALL, groups=2)):
        examination = Examination(draw(case, dtype))
        assert examination.smooth > 0.5
        for side in sides.available()[0]:
            verdict = examination.judge(side)
            assert not verdict.wrong, f'{side.name}: {verdict.refusal}'
            if not side.foreign:
                assert verdict.refusal is None and set(verdict.errors) >= {'output', 'input', 'weight'}


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (lambda out, leaves: out * (1 + 1e-4), 'output'),
        (lambda out, leaves: out + 1e-3 * (leaves['input'] - leaves['input'].detach()).sum(), 'input'),
        (lambda out, leaves: out.detach() + 1.001 * (out - out.detach()), 'metric'),
        (lambda out, leaves: out * math.nan, 'output'),
        (lambda out, leaves: out.double(), 'dtype'),
        (lambda out, leaves: out[:, :0], 'Error'),
    ],
)
def test_a_wrong_side_is_refused_and_not_timed(change, named):
    entry = speed.compare(SMALL, [CONV2D, wrong(change)], ONCE)['sides']
    assert named in entry['wrong']['failed']
    assert not set(speed.MODES) & set(entry['wrong'])
    assert set(speed.MODES) <= set(entry['conv2d'])


def test_a_wrong_side_fails_the_run(monkeypatch, tmp_path, capsys):
    right, _ = sides.available()
    found = [*right, wrong(lambda out, leaves: 2 * out)]
    monkeypatch.setattr(sides, 'available', lambda: (found, {}))
    arguments = ['--quick', '--cases', 'groups64', '--parts', 'speed', '--all-sides', '--output', str(tmp_path / 'result.json')]
    assert run.main(arguments) == 1
    assert 'WRONG, and not timed: cases' in capsys.readouterr().out
    result = json.loads((tmp_path / 'result.json').read_text())
    assert 'WRONG, and not timed' in report.document([result])


def test_a_backend_that_refuses_the_device_is_absent(monkeypatch):
    refusing = replace(ops.BACKENDS['reference'], name='elsewhere', refusal=lambda call: 'input is here')
    monkeypatch.setitem(ops.BACKENDS, 'elsewhere', refusing)
    found = [ours('metric_conv2d', 'elsewhere'), *sides.available()[0]]
    monkeypatch.setattr(sides, 'available', lambda: (found, {}))
    taking_part = run.Run(run.parse(['--quick']))
    assert 'elsewhere: input is here' in taking_part.result['absent']['backend elsewhere']
    assert taking_part.backend != 'elsewhere' and 'elsewhere' not in {side.backend for side in taking_part.sides}


def test_what_others_do_not_support_is_skipped_and_ours_must_not_fail():
    def bind(problem):
        raise NotImplementedError('not for these')

    examination = Examination(draw(SMALL))
    verdict = examination.judge(Side('theirs', 'deform_conv2d', bind))
    assert verdict.refusal == 'NotImplementedError: not for these' and not verdict.wrong
    assert examination.judge(Side('own', 'deform_conv2d', bind, backend='reference')).wrong


def test_offsets_are_the_samples_of_the_metric():
    case = replace(SMALL, channels=4, out_channels=4, stride=1)
    examination = Examination(draw(case))
    torch.testing.assert_close(examination.exact('metric_conv2d')['output'], examination.exact('deform_conv2d')['output'], rtol=1e-5, atol=1e-5)


def test_large_cases_are_verified_on_a_part():
    for case in cases.CASES:
        batch, size = case.smaller(1 << 18)
        assert 1 <= batch <= case.batch and min(case.kernel, case.size) <= size <= case.size
    problem = draw(replace(SMALL, batch=3, size=40))
    part = problem.crop(problem.case.work // 7)
    assert part.case.batch == 1 and 9 < part.case.size < 40 and part['grad'].shape[2] == part.case.output_size
    Examination(part)


def test_names_of_cases_differ():
    assert not [name for name, count in Counter(case.name for case in cases.CASES).items() if count > 1]
    assert {topic for case in cases.CASES for topic in case.topics} == set(cases.TOPICS)


# --- the command and the page -------------------------------------------------------------------------------------------------------


def test_quick_mode_runs_as_a_user_runs_it(quick):
    result, printed = quick
    assert set(run.PARTS) - {'speed'} <= set(result) and len(result['cases']) == len(cases.QUICK)
    assert result['machine']['torch'] == torch.__version__ and result['settings']['quick']
    for name, case in result['cases'].items():
        assert name in printed
        assert {'conv2d', 'metric_conv2d/reference'} <= set(case['sides']) or case.get('left_out')
        for entry in case['sides'].values():
            assert 'failed' not in entry
            assert all({'median_ms', 'low_ms', 'high_ms', 'runs'} == set(entry[mode]) or 'skipped' in entry[mode] for mode in speed.MODES)
    assert not run.failures(result)
    page = report.document([result])
    assert 'A trial' in page and 'No result on a GPU has been recorded yet.' in page


def test_the_peak_of_a_process_holds_at_least_its_tensors(quick):
    if not Path('/proc/self/clear_refs').exists():
        pytest.skip('needs /proc')
    for sizes in quick[0]['peak'].values():
        for size, entry in sizes.items():
            assert entry['peak'] > 0.9 * entry['tensors'] > 0.9 * 4 * 4 * 64 * int(size) ** 2


def test_the_page_is_what_the_committed_results_give():
    assert report.DOCUMENT.read_text() == report.document(report.load()), 'run python -m benchmarks.report'


def blanked(value):
    """Every measured number replaced by NaN."""
    if isinstance(value, dict):
        return {key: blanked(inner) for key, inner in value.items()}
    return math.nan if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def strings(value):
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *strings(inner))]
    return [text for inner in value for text in strings(inner)] if isinstance(value, list) else [str(value)]


def test_every_number_on_the_page_comes_from_the_results():
    raw = report.load()
    empty = copy.deepcopy(raw)
    for result in empty:
        for part in ('threads', 'precision', 'saved', 'peak'):
            counts = result.get(part, {}).get('counts')
            result[part] = blanked(result.get(part, {})) | ({'counts': counts} if counts else {})
        for case in result['cases'].values():
            case['sides'] = blanked(case['sides'])
    page, known = report.document(empty), ' '.join(strings(raw))
    assert 'nan' in page
    left = set(re.findall(r'(?<![\w.])\d+\.\d+(?![\w.]*\d)', page)) - {report.number(result['machine']['load_before'] or 0.0) for result in raw}
    assert all(number in known for number in left), left
    for source in ('report.py', 'results.py'):  # and no other digit is written into the sentences
        texts = [node.value for node in ast.walk(ast.parse((ROOT / 'benchmarks' / source).read_text())) if isinstance(node, ast.Constant)]
        assert not [text for text in texts if isinstance(text, str) and re.search(r'(?<![\w.{])\d(?![\w}])', text)]


def test_means_are_geometric():
    times = {'a': (2.0, 8.0, 16.0), 'b': (4.0, 2.0, 1.0)}
    entries = {}
    for name, (base, ours_ms, theirs) in times.items():
        sides_of = {'conv2d': base, 'metric_conv2d/cpu': ours_ms, report.TORCHVISION: theirs}
        entries[name] = {**vars(SMALL), 'sides': {side: {'forward': {'median_ms': ms}} for side, ms in sides_of.items()}}
    result = report.Result({'machine': {}, 'settings': {}, 'backend': 'cpu', 'cases': entries})
    assert result.mean_ratio(['a', 'b'], 'metric_conv2d/cpu', 'conv2d', 'forward') == report.number((4 * 0.5) ** 0.5)
    assert result.mean_ratio(['a', 'b'], report.TORCHVISION, 'metric_conv2d/cpu', 'forward') == report.number((2 * 0.5) ** 0.5)


def test_unknown_cases_are_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        run.main(['--cases', 'resnet999'])
    assert 'choose from the topics headline' in capsys.readouterr().err
