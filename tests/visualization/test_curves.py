import json

import pytest

pytest.importorskip('matplotlib')
from metricconv_mm.visualization import draw_curves, group_seeds, read_scalars, short_names


def training(losses, *, start=0, per_epoch=2, accuracy=50.0):
    """What mmengine logs: a record an iteration, one without ``iter`` for the evaluation after an epoch."""
    records = []
    for step, loss in enumerate(losses, start + 1):
        records.append({'loss': loss, 'lr': 0.1, 'epoch': (step - 1) // per_epoch + 1, 'iter': step, 'step': step})
        if step % per_epoch == 0:
            records += [{'geometry/a/radius': loss, 'step': step}, {'accuracy/top1': accuracy + step, 'step': step // per_epoch}]
    return records


@pytest.fixture
def write(tmp_path):
    def write(records, stamp='20260101_000000', folder='run', end='\n'):
        path = tmp_path / folder / stamp / 'vis_data'
        path.mkdir(parents=True)
        (path / 'scalars.json').write_text('\n'.join(map(json.dumps, records)) + end)
        return tmp_path / folder

    return write


def values(records, key):
    return [record[key] for record in records if key in record]


def test_a_resumed_run_is_one_run(write):
    write(training([9.0, 8.0, 7.0, 6.0, 5.0]))
    folder = write(training([1.0, 2.0, 3.0, 4.0], start=2, accuracy=70.0), '20260102_000000')
    records = read_scalars(folder)
    assert values(records, 'loss') == [9, 8, 1, 2, 3, 4]
    assert values(records, 'accuracy/top1') == [52, 74, 76]
    assert values(records, 'geometry/a/radius') == [8, 2, 4]


def test_training_anew_counts_alone_and_an_evaluation_not_at_all(write):
    write(training([9.0, 8.0, 7.0, 6.0]))
    write(training([1.0, 2.0]), '20260102_000000')
    folder = write([{'accuracy/top1': 99.0, 'step': 0}], '20260103_000000')
    assert read_scalars(folder) == training([1.0, 2.0])


def test_a_line_that_is_being_written_is_passed_over(write):
    assert read_scalars(write(training([3.0, 2.0]), end='\n{"loss": 1.0, "st')) == training([3.0, 2.0])


def test_folders_without_training_are_refused(write, tmp_path):
    for folder in (tmp_path / 'none', write([{'accuracy/top1': 99.0, 'step': 0}])):
        with pytest.raises(FileNotFoundError, match=r'scalars\.json'):
            read_scalars(folder)


def test_names_are_what_tells_folders_apart():
    assert short_names(['work/a']) == ['a']
    assert short_names(['work/a', 'work/b']) == ['a', 'b']
    assert short_names(['one/a', 'two/a']) == ['one', 'two']
    assert short_names(['one/a/x', 'one/b/c/x']) == ['a', 'b/c']
    assert short_names(['work/a', 'work/a/b', 'work/a/b/c']) == ['a', 'a/b', 'a/b/c']
    assert short_names(['work/x/a', 'work/y/a', 'work/x/b']) == ['x/a', 'y/a', 'x/b']
    assert short_names(['work/a/a', 'work/a']) == ['a/a', 'a']
    with pytest.raises(ValueError, match='more than once'):
        short_names(['work/a', 'work/b', 'work/../work/a'])


def test_seeds_of_one_folder_are_one_curve():
    groups = group_seeds(['w/metric/seed_0', 'w/metric/seed_1', 'w/plain/seed_0', 'w/other'])
    assert {name: [str(folder) for folder in folders] for name, folders in groups.items()} == {
        'metric': ['w/metric/seed_0', 'w/metric/seed_1'],
        'plain': ['w/plain/seed_0'],
        'other': ['w/other'],
    }


def test_seeds_are_drawn_as_their_mean_in_a_band():
    # the third was stopped early, the fourth has no evaluation yet
    seeds = [training([4.0, 2.0, 1.0, 1.0]), training([2.0, 4.0, 3.0, 3.0], accuracy=60.0), training([3.0, 3.0, 2.0], accuracy=55.0), training([3.0])]
    losses, accuracies = draw_curves({'seeds': seeds[:3], 'one': [training([1.0, 1.0])]}).axes
    assert losses.lines[0].get_xydata().tolist() == [[1, 3], [2, 3], [3, 2]]
    band = losses.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1, 4)
    assert accuracies.lines[0].get_xydata().tolist() == [[1, 57]]
    assert len(losses.collections) == 1, 'a single run has no band'
    assert [axes.get_xlabel() for axes in (losses, accuracies)] == ['iteration', 'epoch']
    assert [line.get_label() for line in losses.lines] == ['seeds (3 runs)', 'one']
    _, accuracies = draw_curves({'seeds': seeds}).axes
    assert accuracies.lines[0].get_xydata().tolist() == [[1, 57]]


def test_keys_and_logarithmic_axes_are_chosen():
    runs = {'run': [training([4.0, 2.0])]}
    lr, radius, loss = draw_curves(runs, ['lr', 'geometry/a/radius', 'loss'], log=['loss']).axes
    assert [axes.get_ylabel() for axes in (lr, radius, loss)] == ['lr', 'geometry/a/radius', 'loss']
    assert [axes.get_yscale() for axes in (lr, loss)] == ['linear', 'log'] and radius.get_xlabel() == 'iteration'
    with pytest.raises(ValueError, match=r'no run has lss: choose from accuracy/top1, geometry/a/radius, loss, lr$'):
        draw_curves(runs, ['lss'])
    with pytest.raises(ValueError, match='which is not drawn'):
        draw_curves(runs, ['loss'], log=['lr'])
    with pytest.raises(ValueError, match='no step in common'):
        draw_curves({'run': [training([1.0]), training([1.0], start=2)]})


def test_many_runs_have_colours_of_their_own():
    figure = draw_curves({f'run {n}': [training([float(n), 1.0])] for n in range(25)})
    assert len({(tuple(line.get_color()), line.get_linestyle()) for line in figure.axes[0].lines}) == 25
