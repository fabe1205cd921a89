import json
from pathlib import Path

import pytest

from metricconv_mm.denoising.tables import Results, comparison, load_paper, paper_value

PAPER = Path(__file__).resolve().parents[2] / 'configs/denoising/paper.json'


def test_a_finished_run_is_found_again(tmp_path):
    results = Results(tmp_path / 'new/folder')
    assert results.load('run', {'lr': 1.0}) is None
    results.save('run', {'lr': 1.0}, {'mse': 0.5})
    assert results.load('run', {'lr': 1.0})['mse'] == 0.5
    assert [path.name for path in results.folder.iterdir()] == ['run.json'], 'a temporary file was left'


def test_a_run_with_other_settings_is_not_taken_for_this_one(tmp_path):
    results = Results(tmp_path)
    results.save('run', {'lr': 1.0, 'epochs': 3}, {'mse': 0.5})
    with pytest.raises(ValueError, match='lr 1.0 there and 2.0 now. Choose another folder'):
        results.load('run', {'lr': 2.0, 'epochs': 3})


def test_settings_that_were_not_recorded_are_not_compared(tmp_path):
    results = Results(tmp_path)
    results.save('run', {'lr': 1.0}, {'mse': 0.5})
    assert results.load('run', {'lr': 1.0, 'image': 'abc'})['mse'] == 0.5


def test_a_run_that_was_stopped_goes_on_with_its_own_settings_alone(tmp_path):
    results = Results(tmp_path)
    results.begin('run', {'lr': 1.0})
    results.begin('run', {'lr': 1.0})
    with pytest.raises(ValueError, match=f'lr 1.0 there and 2.0 now. Choose another folder, or remove the folder {tmp_path}/run'):
        results.begin('run', {'lr': 2.0})
    assert results.load('run', {'lr': 2.0}) is None, 'a run that was begun is not finished'


@pytest.mark.parametrize('content', ['', '{"mse": 1', '[]', '{"mse": 1}'])
def test_a_broken_result_is_named(tmp_path, content):
    (tmp_path / 'run.json').write_text(content)
    with pytest.raises(ValueError, match=r'run.json is no result of a run .* remove it'):
        Results(tmp_path).load('run', {'lr': 1.0})


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='choose another one'):
        Results(tmp_path / 'file/folder')


def test_tables_show_both_numbers_and_what_is_missing():
    measured = {('a', 1): 0.00123, ('b', 1): 2283.4, ('a', 2): None, ('b', 2): 0.0}
    table = comparison([('A', 'a'), ('B', 'b')], [('one', 1), ('two', 2)], lambda r, c: measured[r, c], lambda r, c: 0.5 if c == 1 else None)
    assert table.splitlines()[0] == '| | one | two |'
    assert table.splitlines()[2:] == ['| A | 1.23e-3 / 0.5 | - / - |', '| B | 2283 / 0.5 | 0 / - |']
    table = comparison([('A', 'a')], [('one', 1)], lambda r, c: -0.02361, lambda r, c: 0.00159, errors=False)
    assert table.splitlines()[2] == '| A | -0.0236 / 0.0016 |'


@pytest.mark.parametrize('experiment', ['one_image', 'bsds300', 'voc2012'])
def test_the_papers_numbers_are_whole(experiment):
    """Every error has a learning rate and a gap; a metric's lies between those of a perfect denoiser and of none."""
    paper = load_paper(PAPER, experiment)
    cells = [(sigma, method, int(k)) for sigma in (0.1, 0.3, 0.5) for method, by_size in paper['lr'][f'{sigma:g}'].items() for k in by_size]
    assert len(cells) == (3 * 3 * 5 if experiment == 'one_image' else 3 * 6 * 3)
    for sigma, method, k in cells:
        assert paper_value(paper, 'lr', sigma, method, k) > 0 and paper_value(paper, 'gap', sigma, method, k) >= -0.002
        error = paper_value(paper, 'test_mse', sigma, method, k)
        assert 0 < error < (0.07 if method == 'deform' else sigma**2 if error < 0.03 else 0.04)
    assert paper_value(paper, 'lr', 0.2, 'deform', 5) is None


def test_missing_numbers_are_said(tmp_path):
    (tmp_path / 'paper.json').write_text(json.dumps({'one_image': {}}))
    with pytest.raises(ValueError, match="no numbers of the paper for 'bsds300'"):
        load_paper(tmp_path / 'paper.json', 'bsds300')
    with pytest.raises(ValueError, match='no numbers of the paper'):
        load_paper(tmp_path / 'none.json', 'bsds300')
