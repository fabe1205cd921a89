"""Tables: what they consist of, and putting their runs together."""

import csv
import json
import re
import runpy
import shutil
import statistics
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmpretrain')
import mmengine

from metricconv_mm.integrations.mm.tables import collect, known_tables, load_table, markdown, outcome, read_models, with_table

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {'device': 'a machine', 'cores': 2, 'torch': '2', 'threads': 1}
SCORES = {0: 61.25, 1: 64.5, 2: 59.75}


@pytest.fixture
def call_tool(monkeypatch, capsys):
    """Run a tool in this process; returns what it prints, or its message where it exits."""

    def call(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / tool), run_name='__main__')
        except SystemExit as error:
            return f'{error.code}{capsys.readouterr().err}'
        return capsys.readouterr().out

    return call


@pytest.fixture
def write_run():
    """A function that writes what a run leaves behind, one part a list of (epoch, top-1)."""

    def write(folder, *parts, epochs=2, table='fashion-mnist-12k', text='', **more):
        seed = int(folder.name.removeprefix('seed_'))
        description = {'table': table, 'seed': seed, 'epochs': epochs, 'options': [], 'digest': 'x', 'machine': MACHINE, **more}
        for index, part in enumerate(parts):
            log = folder / f'20260101_00000{index}/vis_data/scalars.json'
            log.parent.mkdir(parents=True)
            lines = []
            for epoch, top1 in part:
                lines += [{'loss': 1.0, 'time': 0.25 * (epoch + 1), 'memory': 100 + epoch, 'step': 10 * epoch}]
                lines += [{'geometry/layer4.0.conv1/radius': epoch + 0.5, 'geometry/layer4.0.conv2/radius': epoch + 1.5, 'step': 10 * epoch}]
                lines += [{'accuracy/top1': top1, 'accuracy/top5': top1 + 30, 'step': epoch}]
            log.write_text(''.join(json.dumps(line) + '\n' for line in lines) + text)
            (log.parents[1] / f'{log.parents[1].name}.log').write_text('INFO - Epoch(train)  [1][ 5/40]  lr: 1.0e-03\n')
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'run.json').write_text(json.dumps(description))

    return write


@pytest.fixture
def work_dir(tmp_path, write_run):
    """Runs of three cells of a table: three seeds, of which one was resumed; one that died; one that was stopped."""
    metric, deform, shifted = (f'resnet18-w8_{method}-layer2-4_1xb32-3e_fashion-mnist-12k' for method in ('metric', 'deform', 'shifted'))
    for seed, top1 in SCORES.items():
        parts = ([(1, 30.0), (2, 31.0)], [(2, top1)]) if seed == 1 else ([(1, 30.0), (2, top1)],)
        write_run(tmp_path / metric / f'seed_{seed}', *parts)
    write_run(tmp_path / deform / 'seed_0', [(1, 10.0)], failure='exit status 1: FloatingPointError: the loss is not finite')
    write_run(tmp_path / shifted / 'seed_0', [(1, 20.0)], text='{"accuracy/top1": 99.0, "st')
    return tmp_path


@pytest.mark.parametrize('name', known_tables(ROOT))
def test_every_cell_has_a_config(name):
    table = load_table(name, ROOT)
    assert table.cells and table.caption
    missing = [cell.config.name for cell in table.cells if not cell.config.is_file()]
    assert not missing


def test_the_papers_numbers_are_where_they_belong():
    cells = {(name, c.dataset, c.method, c.setting, c.depth): c.paper for name in known_tables(ROOT) for c in load_table(name, ROOT).cells}
    assert cells['table4', 'cifar100', 'shifted', 'FKW-TL', 18] == {'top1': (2.67, 0.66), 'top5': (10.67, 2.21)}
    assert cells['table3', 'fashion-mnist', 'deform', 'FKW-SC', 18] == {'top1': (75.5, None)}
    assert cells['table11', 'cifar100', 'metric-riemann', 'LKW-TL', 152] == {'top1': (80.27, None), 'top5': (94.75, None)}
    # 7 rows of Tables 3 and 4 without standard FKW have 4 settings, those of standard 2
    assert sum(bool(paper) for paper in cells.values()) == 2 * (2 * 2 + 6 * 4) + 15
    assert all(0 < score.mean < 100 for paper in cells.values() for score in paper.values())


def test_means_and_deviations_over_seeds(work_dir):
    rows = {row.cell.method: row for row in collect(load_table('fashion-mnist-12k', ROOT), work_dir) if row.outcomes}
    row = rows['metric']
    assert row.score('top1') == (pytest.approx(statistics.fmean(SCORES.values())), pytest.approx(statistics.stdev(SCORES.values())))
    assert row.score('top5').mean == pytest.approx(row.score('top1').mean + 30)
    assert row.runs == '3'
    # the log says 40 iterations an epoch; they took 0.5 s and 0.75 s, and the resumed run had one more record of 0.75
    by_seed = {found.seed: found for found in row.outcomes}
    assert by_seed[0].epoch_seconds == pytest.approx(40 * 0.625) and by_seed[1].epoch_seconds == pytest.approx(40 * (0.5 + 0.75 + 0.75) / 3)
    assert by_seed[0].memory == 102 and by_seed[0].geometry == {'radius': 3.0}


def test_what_is_unfinished_is_said(work_dir):
    rows = {row.cell.method: row for row in collect(load_table('fashion-mnist-12k', ROOT), work_dir) if row.outcomes}
    assert rows['deform'].score('top1') is None and rows['deform'].runs == '0, 1 died'
    # the line that was cut short does not count
    assert rows['shifted'].outcomes[0].epoch == 1 and rows['shifted'].runs == '0, 1 stopped'
    page = markdown(load_table('fashion-mnist-12k', ROOT), list(rows.values()), work_dir)
    assert 'seed 0, died after epoch 1 of 2: exit status 1: FloatingPointError' in page and 'stopped after epoch 1 of 2' in page
    assert re.search(r'\| LKW-SC \| metric \| 61\.83 ± 2\.43 \| 91\.83 ± 2\.43 \| 3 \|', page)


def test_a_single_run_has_no_deviation(tmp_path, write_run):
    write_run(tmp_path / 'cell/seed_7', [(1, 50.0), (2, 60.0)])
    assert outcome(tmp_path / 'cell/seed_7').seed == 7
    shutil.move(tmp_path / 'cell', tmp_path / load_table('fashion-mnist-12k', ROOT).cells[0].name)
    (row,) = [row for row in collect(load_table('fashion-mnist-12k', ROOT), tmp_path) if row.outcomes]
    assert row.score('top1') == (60.0, None)


def test_the_tool_writes_tables_numbers_and_a_picture(work_dir, tmp_path, call_tool):
    metafile = tmp_path / 'metafile.yml'
    shutil.copy(ROOT / 'configs/resnet/metafile.yml', metafile)
    output = call_tool('tools/collect_table.py', work_dir, '--out', tmp_path / 'out', '--geometry', '--metafile', metafile)
    assert '61.83 ± 2.43' in output and '3.000 ± 0.000' in output and '1 cells written' in output
    assert (tmp_path / 'out/table.png').read_bytes().startswith(b'\x89PNG')
    with (tmp_path / 'out/table.csv').open() as file:
        rows = {row['config']: row for row in csv.DictReader(file)}
    with (tmp_path / 'out/runs.csv').open() as file:
        runs = [row for row in csv.DictReader(file) if row['method'] == 'metric']
    name = 'resnet18-w8_metric-layer2-4_1xb32-3e_fashion-mnist-12k'
    assert len(rows) == len(load_table('fashion-mnist-12k', ROOT).cells)
    assert float(rows[name]['top1_mean']) == statistics.fmean(float(run['top1']) for run in runs)
    model = {model['Name']: model for model in mmengine.load(metafile)['Models']}[name]
    assert model['Metadata']['Seeds'] == [0, 1, 2] and '--methods metric --settings LKW-SC' in model['Metadata']['Command']
    assert model['Results'][0]['Metrics']['Top 1 Accuracy Std'] == 2.43


def test_metafiles_say_how_results_were_obtained_and_the_readme_says_the_same(call_tool):
    assert read_models(ROOT)
    assert call_tool('tools/zoo.py', '--check') == ''
    assert with_table((ROOT / 'README.md').read_text(), 'another') != (ROOT / 'README.md').read_text()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda model: model.update(Config='configs/none.py'), 'no config'),
        (lambda model: model['Metadata'].pop('Seeds'), 'missing: Seeds'),
        (lambda model: model.pop('Results'), 'Top 1 Accuracy'),
    ],
)
def test_a_metafile_without_conditions_is_refused(change, message, tmp_path):
    contents = mmengine.load(ROOT / 'configs/resnet/metafile.yml')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    change(contents['Models'][0])
    mmengine.dump(contents, tmp_path / 'metafile.yml')
    mmengine.dump({'Import': ['metafile.yml']}, tmp_path / 'model-index.yml')
    with pytest.raises(ValueError, match=message):
        read_models(tmp_path)


def test_markers_must_be_there():
    with pytest.raises(ValueError, match='once each'):
        with_table('no markers', 'table')


def test_model_index_is_one_that_mim_reads():
    modelindex = pytest.importorskip('modelindex')
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert [model.name for model in index.models] == [model['Name'] for model in read_models(ROOT)]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'levels': ['method']}, 'each of dataset, method, setting, depth once'),
        ({'suffixes': {}}, "no suffix for the setting 'FKW-SC'"),
        ({'cells': {'metric': 3}}, 'mapping by setting'),
        ({'cells': {'metric': {'LKW-SC': 'high'}}}, "a number or \\[mean, std\\], got 'high'"),
        ({'config': 'one.py'}, 'a config of its own'),
        ({'colour': 'red'}, 'defines no table'),
    ],
)
def test_a_definition_that_is_none_is_refused(change, message, tmp_path):
    contents = mmengine.load(ROOT / 'configs/tables/fashion-mnist-12k.yml')
    mmengine.dump({**contents, **change}, tmp_path / 'table.yml')
    with pytest.raises(ValueError, match=message):
        load_table(tmp_path / 'table.yml', ROOT)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['tools/run_table.py', 'table5'], "no table 'table5': choose from fashion-mnist-12k, table11, table3, table4"),
        (['tools/run_table.py', 'table4', '--methods', 'metrix'], "no method 'metrix': choose from standard, deform, shifted, metric"),
        (['tools/run_table.py', 'table4', '--methods', 'standard', '--settings', 'FKW-SC'], 'no cell with all of'),
        (['tools/run_table.py', 'table4', '--jobs', '0'], 'at least 1, got 0'),
        (['tools/collect_table.py', 'EMPTY'], 'say which table with --table'),
        (['tools/collect_table.py', 'EMPTY', '--table', 'table3'], 'holds no run of table3'),
    ],
)
def test_what_is_wrong_is_said(arguments, message, call_tool, tmp_path):
    assert message in call_tool(*[tmp_path if a == 'EMPTY' else a for a in arguments])
