"""Running a table: interrupted anywhere, it goes on; what dies is reported; no run is trained twice at a time."""

import _thread
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mmengine
import pytest
import torch

pytest.importorskip('mmpretrain')
from metricconv_mm.integrations.mm.tables import Cell, Run, collect, load_table, markdown, outcome, plan, run_all
from metricconv_mm.integrations.mm.tables.records import is_locked, read_description
from metricconv_mm.integrations.mm.tables.training import Training, environment

ROOT = Path(__file__).resolve().parents[2]
# stands for tools/train.py where the training itself does not matter: an evaluation at once, then the next after PAUSE; every start leaves a line
TRAIN = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
with (folder.parent.parent / 'starts').open('a') as starts:
    starts.write(' '.join(sys.argv[1:]) + chr(10))
log = folder / str(time.time_ns()) / 'vis_data/scalars.json'
log.parent.mkdir(parents=True)
for epoch in (1, 2):
    if epoch == 2 and 'broken' in sys.argv[1]:
        sys.exit('it broke')
    time.sleep(PAUSE if epoch == 2 else 0)
    with log.open('a') as file:
        file.write(json.dumps({'accuracy/top1': 10.0 * epoch, 'step': epoch}) + chr(10))
"""


@pytest.fixture
def stand_in(tmp_path):
    """(path of a training tool that takes ``pause`` seconds, runs of it by name, its starts)."""

    def make(*names, pause=0.0):
        tool = tmp_path / 'train.py'
        tool.write_text(TRAIN.replace('PAUSE', str(pause)))
        cells = [Cell('none', name, 'LKW', 18, tmp_path / f'{name}.py', {}) for name in names]
        return tool, [Run('table', cell, 0, tmp_path / 'work' / cell.name / 'seed_0', 2, (), 'digest') for cell in cells]

    return make


def starts(tmp_path):
    path = tmp_path / 'work/starts'
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.05)


def kill_all_with(argument):
    for process in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if str(argument).encode() in (process / 'cmdline').read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def test_a_run_that_dies_is_reported_and_does_not_stop_the_others(stand_in, tmp_path, capsys):
    tool, runs = stand_in('first', 'broken', 'last')
    (failure,) = run_all(runs, tool)
    assert failure.run.cell.name == 'broken' and failure.reason == 'exit status 1: it broke'
    assert 'FAILED broken, seed 0' in capsys.readouterr().out
    assert [outcome(run.folder).state for run in runs] == ['done', 'died', 'done']
    # again: what is done is not trained again, what died is
    assert len(run_all(runs, tool)) == 1 and len(starts(tmp_path)) == 4


def test_two_runners_share_the_work(stand_in, tmp_path):
    tool, runs = stand_in(*'abcd', pause=0.3)
    results = []
    others = [threading.Thread(target=lambda: results.append(run_all(runs, tool))) for _ in range(2)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    assert results == [[], []]
    # flock locks open files, not processes: two threads that open it are as good as two processes
    assert len(starts(tmp_path)) == 4


def test_a_training_outlives_a_runner_that_is_killed_and_keeps_its_lock(stand_in, tmp_path):
    tool, (run,) = stand_in('one', pause=1.5)
    orphan = Training(run)
    assert orphan.lock.acquire()
    orphan.start(tool, 0, 1)
    orphan.lock.close()  # what the kernel does when the runner dies
    assert is_locked(run.folder) and outcome(run.folder).state == 'running'
    assert run_all([run], tool) == []
    assert len(starts(tmp_path)) == 1 and not is_locked(run.folder)
    assert orphan.process.wait() == 0


@pytest.fixture
def interruptible():
    """Processes that a shell started in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_ends_the_training(stand_in, interruptible):
    tool, (run,) = stand_in('one', pause=300)

    def interrupt():
        wait_for(lambda: outcome(run.folder).epoch == 1)
        _thread.interrupt_main()

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_all([run], tool)
    assert outcome(run.folder).state == 'stopped'


def test_it_resumes_from_the_newest_checkpoint_that_can_be_read_and_is_followed_by_an_epoch(stand_in, tmp_path):
    tool, (run,) = stand_in('one')
    run.folder.mkdir(parents=True)
    for epoch in (1, 2):
        torch.save({'state_dict': {'weight': torch.ones(1)}, 'meta': {'epoch': epoch}}, run.folder / f'epoch_{epoch}.pth')
    (run.folder / 'epoch_3.pth').write_bytes(b'cut short')
    assert run_all([run], tool) == []
    # after the last epoch mmengine would evaluate nothing
    assert f'--resume {run.folder / "epoch_1.pth"}' in starts(tmp_path)[0]


def test_jobs_share_cores_and_gpus(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    found = [environment(slot, 1000) for slot in range(3)]
    assert [variables['CUDA_VISIBLE_DEVICES'] for variables in found] == ['3', '5', '3']
    assert found[0]['OMP_NUM_THREADS'] == '1'
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    assert 'OMP_NUM_THREADS' not in environment(0, 1)


@pytest.fixture
def tiny_table(tiny_config, tmp_path):
    """Two cells of five epochs of a second: one trains, the other's images are not there."""
    for name, more in (('good', ''), ('broken', "train_dataloader = dict(dataset=dict(data_root='/no/such'))\n")):
        (tmp_path / f'tiny_{name}.py').write_text(f"_base_ = '{tiny_config}'\ntrain_cfg = dict(max_epochs=5)\n{more}")
    definition = {
        'caption': 'Tiny',
        'config': str(tmp_path / 'tiny_{method}{suffix}.py'),
        'suffixes': {'LKW': ''},
        'fixed': {'dataset': 'none', 'depth': 18, 'setting': 'LKW'},
        'levels': ['method'],
        'cells': {'good': None, 'broken': 50.0},
    }
    mmengine.dump(definition, tmp_path / 'tiny.yml')
    return tmp_path / 'tiny.yml'


@pytest.mark.stack
def test_killed_in_the_middle_and_started_again_it_finishes(tiny_table, tmp_path, run_tool):
    work = tmp_path / 'work'
    arguments = ['tools/run_table.py', tiny_table, '--seeds', 4, '--work-dir', work]
    folder = work / 'tiny_good/seed_4'
    first = subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for((folder / 'last_checkpoint').exists)
    finally:  # the training as well, as when the machine goes down
        first.kill()
        first.wait()
        kill_all_with(folder)
    wait_for(lambda: not is_locked(folder))
    assert outcome(folder).state == 'stopped'
    output = run_tool(*arguments, fails=True)
    assert 'FAILED tiny_broken, seed 4' in output and "Debian's package dataset" in output and '1 of 2 runs died' in output
    found = outcome(folder)
    assert (
        found.state == 'done' and found.epoch == 5 and 0 <= found.metrics['top1'] <= 100 and found.epoch_seconds > 0 and found.geometry['radius'] > 0
    )
    assert 'resumed epoch: ' in (folder / 'output.log').read_text()
    assert [path.name for path in folder.glob('*.pth')] == ['epoch_5.pth']
    description = read_description(folder)
    assert description['seed'] == 4 and description['table'] == str(tiny_table) and 'failure' not in description
    table = load_table(tiny_table, ROOT)
    page = markdown(table, collect(table, work), work)
    assert '| LKW | broken |  | 50.00 |' in page and 'died after epoch 0 of 5' in page


def test_a_folder_keeps_to_one_config(tiny_table, tmp_path):
    table = load_table(tiny_table, ROOT)
    (run, other) = plan(table, table.cells, [0], tmp_path / 'work', ['optim_wrapper.optimizer.lr=0.5'])
    assert (run.epochs, other.epochs) == (5, 5) and run.digest != other.digest
    assert 'optim_wrapper.optimizer.lr=0.5' in run.command(Path('train.py')) and 'randomness.seed=0' in run.command(Path('train.py'))
    training = Training(run)
    mmengine.dump(run.description(), run.folder / 'run.json')
    training.close()
    assert plan(table, table.cells, [0], tmp_path / 'work', run.options)[0] == run
    with pytest.raises(ValueError, match='there optim_wrapper.optimizer.lr=0.5; now none'):
        plan(table, table.cells, [0], tmp_path / 'work')


def test_a_config_that_is_missing_is_named(tiny_table, tmp_path):
    (tmp_path / 'tiny_good.py').unlink()
    table = load_table(tiny_table, ROOT)
    with pytest.raises(ValueError, match=r'no config .*tiny_good\.py, which the table names for none, good, LKW, ResNet-18'):
        plan(table, table.cells, [0], tmp_path / 'work')
