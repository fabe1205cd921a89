"""The tools that need no data set, in this process: they need no OpenMMLab, and importing torch takes longer than what they do."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('matplotlib')
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    """A colour photograph in small: smooth shades and an edge."""
    y, x = np.mgrid[:24, :30]
    image = np.stack([120 + 60 * np.sin(x / 9), 100 + 3 * y, np.where(x > 2 * y, 200, 60)], -1)
    path = tmp_path_factory.mktemp('picture') / 'picture.png'
    Image.fromarray(image.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run a tool's main program; returns what it printed, or the message that it ends with where it fails."""

    def run(tool, *arguments, fails=False):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        if not fails:
            runpy.run_path(str(ROOT / tool), run_name='__main__')
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / tool), run_name='__main__')
        assert ended.value.code not in (0, None)
        return f'{ended.value.code}\n{capsys.readouterr().err}'

    return run


def test_filters_are_compared_and_drawn(run_here, picture, tmp_path):
    output = run_here('tools/filter_image.py', picture, '--kernel-size', 5, '--taus', 0, 0.8, '--out', tmp_path / 'f.png')
    found = re.findall(r'^(\S.*?) +(\d+\.\d+) dB$', output, re.MULTILINE)
    assert [label for label, _ in found] == [
        'noisy', 'standard', 'dilated (3)', 'deformable (random)', 'interpolated', 'unit tangent balls, tau 0', 'unit tangent balls, tau 0.8',
        'unit geodesic balls, tau 0', 'unit geodesic balls, tau 0.8',
    ]  # fmt: skip
    quality = {label: float(decibels) for label, decibels in found}
    assert 19 < quality['noisy'] < 21 and min(quality.values()) > 5
    assert (tmp_path / 'f.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['PICTURE', '--taus', '1.0'], '0 <= tau < 1'),
        (['none.png'], 'give the path of an image file'),
        (['PICTURE', '--sigma', '1e30'], 'from 0 to 1e+06'),
        (['PICTURE', '--seed', 2**64], 'a seed of 64 bits'),
        (['PICTURE', '--iota', '1e30'], 'choose less extreme ones'),
        (['PICTURE', '--out', 'filtered'], 'expected a file that ends in one of'),
    ],
)
def test_what_cannot_be_filtered_is_said(run_here, picture, tmp_path, arguments, message):
    arguments = [picture if argument == 'PICTURE' else argument for argument in arguments]
    output = run_here('tools/filter_image.py', '--out', tmp_path / 'f.png', *arguments, fails=True)
    assert message in output and not (tmp_path / 'f.png').exists()


def test_balls_at_pixels_are_drawn(run_here, picture, tmp_path):
    out = tmp_path / 'new' / 'b.png'
    run_here('tools/draw_pixel_balls.py', picture, '--pixels', '3,4', '20,29', '--taus', 0, 0.8, '--out', out)
    with Image.open(out) as both:
        rows = both.height
    run_here('tools/draw_pixel_balls.py', picture, '--pixels', '3,4', '20,29', '--kinds', 'tangent', '--out', out)
    with Image.open(out) as tangent:
        assert tangent.height < rows


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--pixels', '3,99'], r'pixels (row, column) of an image of 24 x 30, rows 0 to 23 and columns 0 to 29, got [(3, 99)]'),
        (['--pixels', '3'], 'expected ROW,COLUMN'),
        (['--pixels', '3,4', '--taus', '1'], '0 <= tau < 1'),
        (['--pixels', '3,4', '--heat', '0', '1'], 'expected heat_step > 0'),
        (['--pixels', '3,4', '--geodesic-metric', '-1', '1'], 'expected iota > 0'),
    ],
)
def test_what_cannot_be_drawn_is_said(run_here, picture, tmp_path, arguments, message):
    output = run_here('tools/draw_pixel_balls.py', picture, *arguments, '--out', tmp_path / 'b.png', fails=True)
    assert message in output and not (tmp_path / 'b.png').exists()


def test_learning_on_an_image_skips_what_is_done(run_here, picture, tmp_path):
    command = ['tools/learn_image.py', picture, '--out', tmp_path, '--sigmas', 0.3, '--kernel-sizes', 5, '--iterations', 3, '--methods']
    run_here(*command, 'deform')
    first = (tmp_path / 'sigma0.3_k5_deform.json').stat().st_mtime_ns
    output = run_here(*command, 'deform', 'metric-0.1')
    assert (tmp_path / 'sigma0.3_k5_deform.json').stat().st_mtime_ns == first
    assert re.search(r'sigma=0.3 \| .* / 7.26e-3 \| .* / 8.10e-3', output)
    result = json.loads((tmp_path / 'sigma0.3_k5_metric-0.1.json').read_text())
    # the paper's rate for the mean over 256 x 256 pixels
    assert result['settings']['lr'] == pytest.approx(1e4 * 24 * 30 / 256**2)
    assert result['train_mse'] == result['train'][2] and result['test_mse'] == result['test']['2'] and result['train'][2] < result['train'][0]
    assert (tmp_path / 'tables.md').is_file() and (tmp_path / 'sigma0.3_k5.png').read_bytes().startswith(b'\x89PNG')
    # nothing is learnt before everything that was asked for is known to be possible
    output = run_here(*command, 'deform', '--out', tmp_path / 'new', '--kernel-sizes', 5, 7, fails=True)
    assert 'no learning rate for deform, sigma 0.3 and kernel size 7' in output and not list((tmp_path / 'new').glob('*.json'))


@pytest.fixture
def one_cell(run_here, picture, tmp_path):
    """A function that learns one cell of the table into a folder."""

    def learn(*arguments, image=picture, **kwargs):
        command = ['--sigmas', 0.3, '--kernel-sizes', 5, '--iterations', 2, '--methods', 'metric-0.1', '--out', tmp_path / 'out', *arguments]
        return run_here('tools/learn_image.py', image, *command, **kwargs)

    return learn


def test_another_image_of_the_same_size_is_not_taken_for_this_one(one_cell, picture, tmp_path):
    one_cell()
    Image.open(picture).rotate(180).save(tmp_path / 'other.png')
    assert 'made with other settings: image' in one_cell(image=tmp_path / 'other.png', fails=True)


def test_pictures_of_a_run_that_are_lost_are_made_again(one_cell, tmp_path):
    first = one_cell()
    (pictures,) = (tmp_path / 'out').glob('*.pt')
    pictures.write_bytes(pictures.read_bytes()[:100])
    assert f'{pictures} holds no pictures of a run' in one_cell(fails=True)
    pictures.unlink()
    assert one_cell() == first and pictures.is_file()


def test_learning_that_cannot_be_is_refused_before_it_starts(one_cell, tmp_path):
    for options, message in ((['--kernel-sizes', 5, 4, '--lr', 1], 'odd kernel size'), (['--seed', 2**64], 'a seed of 64 bits')):
        assert message in one_cell(*options, fails=True)
    (tmp_path / 'file').write_text('')
    assert 'choose another one' in one_cell('--out', tmp_path / 'file', fails=True)
    assert not list(tmp_path.glob('**/*.json'))


def test_learning_that_diverges_keeps_the_last_finite_values(one_cell, tmp_path):
    assert 'diverged after 1 iterations' in one_cell('--lr', 1e30)
    (path,) = (tmp_path / 'out').glob('*.json')
    result = json.loads(path.read_text())
    assert np.isfinite([result['train_mse'], result['test_mse'], *result['train']]).all()


def test_an_interruption_is_said_and_the_same_command_goes_on(one_cell, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr('metricconv_mm.denoising.learn', interrupted)
        assert 'interrupted: the same command goes on' in one_cell(fails=True)
    assert 'tables: ' in one_cell()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--matrix', 1, 2, 1], 'positive definite matrix'),
        (['--matrix', 'nan', 0, 1], 'positive definite matrix'),
        (['--matrix', 1e300, 0, 1e300], 'positive definite matrix'),
        (['--drift', 0, 0], 'expected a direction'),
        (['--drift', 'nan', 0], 'expected a direction'),
        (['--out', 'norms.xyz'], 'expected a file that ends in one of'),
    ],
)
def test_norms_that_cannot_be_drawn_are_said(run_here, tmp_path, arguments, message):
    assert message in run_here('tools/draw_norms.py', '--out', tmp_path / 'norms.png', *arguments, fails=True)
    assert not list(tmp_path.iterdir())


def test_directions_of_any_length_draw_the_same_norms(run_here, tmp_path):
    for index, length in enumerate((1, 1e-300, 1e300)):
        run_here('tools/draw_norms.py', '--drift', length, 0, '--out', tmp_path / f'{index}.png')
    first, *others = (np.asarray(Image.open(tmp_path / f'{index}.png')) for index in range(3))
    assert all(map(np.array_equal, [first, first], others))
