"""Reference supports."""

import math
import re

import pytest
import torch
from torch._subclasses import FakeTensorMode

from metricconv_mm.geometry import SUPPORTS, kernel_grid, pair, reference_support


def test_a_tap_is_a_unit_direction_and_a_radius():
    for support in SUPPORTS:
        taps = reference_support(support, 5)
        assert taps.shape == (25, 3) and taps.dtype == torch.float64
        torch.testing.assert_close(taps[:, :2].norm(dim=1), torch.ones(25, dtype=torch.float64))
        assert (taps[:, 2] >= 0).all()


def onion_angle(row, column):
    """Degrees at which ring max(|row|, |column|) has the sample of a cell: its sides are spread evenly over quarter turns."""
    ring = max(abs(row), abs(column))
    if column == ring:
        return 45 * row / ring
    if row == ring:
        return 90 - 45 * column / ring
    if column == -ring:
        return 180 - 45 * row / ring
    return 270 + 45 * column / ring


@pytest.mark.parametrize('size', [3, 5, 9])
def test_onion_taps_lie_in_the_direction_of_their_cells(size):
    taps, radius = reference_support('onion', size), size // 2
    for k, (x, y, s) in enumerate(taps.tolist()):
        row, column = k // size - radius, k % size - radius
        ring = max(abs(row), abs(column))
        assert s == ring / radius
        if ring == 0:
            continue
        angle = math.radians(onion_angle(row, column))
        assert math.isclose(x, math.cos(angle), abs_tol=1e-12) and math.isclose(y, math.sin(angle), abs_tol=1e-12)
        towards_cell = (x * column + y * row) / math.hypot(row, column)
        # a square's side spread evenly over a quarter turn is off the true direction by less than 4.1 degrees
        assert towards_cell > math.cos(math.radians(4.1))


@pytest.mark.parametrize('size', [3, 5, 7])
def test_onion_rings_hold_eight_more_samples_each(size):
    taps, radius = reference_support('onion', size), size // 2
    for ring in range(1, radius + 1):
        on_ring = taps[taps[:, 2] == ring / radius]
        assert len(on_ring) == 8 * ring
        angles = torch.atan2(on_ring[:, 1], on_ring[:, 0]).rad2deg().remainder(360).sort().values
        torch.testing.assert_close(angles, torch.arange(8 * ring, dtype=torch.float64) * (360 / (8 * ring)))


@pytest.mark.parametrize('support', ['onion', 'grid'])
def test_corners_are_exactly_diagonal_and_axes_exactly_straight(support):
    taps = reference_support(support, 5).view(5, 5, 3)
    for row, column in ((0, 0), (0, 4), (4, 0), (4, 4)):
        x, y = taps[row, column, :2].tolist()
        assert math.isclose(abs(x), abs(y), rel_tol=1e-15) and (x > 0) == (column > 2) and (y > 0) == (row > 2)
    assert taps[2, 3:, :2].tolist() == [[1, 0]] * 2 and taps[2, :2, :2].tolist() == [[-1, 0]] * 2
    assert taps[3:, 2, :2].tolist() == [[0, 1]] * 2 and taps[:2, 2, :2].tolist() == [[0, -1]] * 2


def test_polar_rows_are_radii_and_columns_are_angles():
    rows, columns = 3, 4
    taps = reference_support('polar', (rows, columns)).view(rows, columns, 3)
    for a in range(rows):
        for b, direction in enumerate(([1, 0], [0, 1], [-1, 0], [0, -1])):  # theta runs from +x to +y
            assert taps[a, b].tolist() == [*direction, (a + 1) / rows]


@pytest.mark.parametrize('size', [(3, 3), (2, 2), (3, 2), (1, 5), (4, 1)])
@pytest.mark.parametrize('dilation', [(1, 1), (2, 3)])
def test_grid_taps_are_the_kernel_grid(size, dilation):
    taps = reference_support('grid', size, dilation)
    expected = [
        (dilation[1] * (column - (size[1] - 1) / 2), dilation[0] * (row - (size[0] - 1) / 2)) for row in range(size[0]) for column in range(size[1])
    ]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(taps[:, :2] * taps[:, 2:], expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(kernel_grid(size, dilation, taps), expected)


@pytest.mark.parametrize('support', ['onion', 'polar'])
def test_dilation_stretches_the_grid_alone(support):
    assert torch.equal(reference_support(support, 3, 2), reference_support(support, 3))
    assert not torch.equal(reference_support('grid', 3, 2), reference_support('grid', 3))


@pytest.mark.parametrize('support', sorted(SUPPORTS))
def test_one_by_one_kernels_sample_their_centre(support):
    assert reference_support(support, 1, 3).tolist() == [[1, 0, 0]]


def test_dtype_and_device_are_those_asked_for():
    taps = reference_support('onion', 3, device='meta', dtype=torch.float32)
    assert taps.dtype == torch.float32 and taps.device.type == 'meta'
    torch.testing.assert_close(reference_support('onion', 5, dtype=torch.float32).double(), reference_support('onion', 5), rtol=0, atol=1e-7)


def test_first_use_in_inference_mode_does_not_spoil_later_training():
    with torch.inference_mode():
        reference_support('polar', (6, 7))
    weight = torch.ones(1, requires_grad=True)
    (weight * reference_support('polar', (6, 7))).sum().backward()
    assert weight.grad.isfinite().all()


def test_first_use_with_fake_tensors_does_not_spoil_later_calls():
    with FakeTensorMode():
        reference_support('polar', (7, 6))
    assert type(reference_support('polar', (7, 6))) is torch.Tensor


def test_pairs():
    assert pair(3) == (3, 3) and pair((1, 2)) == (1, 2) and pair(torch.Size([4, 5])) == (4, 5)


@pytest.mark.parametrize('value', [(1, 2, 3), (1,), 'same', 1.5])
def test_what_is_no_pair_is_shown(value):
    with pytest.raises((ValueError, TypeError), match=rf'expected .*got .*{re.escape(repr(value))}'):
        pair(value)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('star', 3), r"unknown support='star': choose one of \['grid', 'onion', 'polar'\]"),
        (('onion', 4), r"expected an odd square kernel, got kernel_size=\(4, 4\). Use support='polar' or 'grid'"),
        (('onion', (3, 5)), r'expected an odd square kernel, got kernel_size=\(3, 5\)'),
        (('grid', (0, 3)), r'expected a kernel of at least 1 x 1, got kernel_size=\(0, 3\)'),
    ],
)
def test_errors_say_what_fits(arguments, words):
    with pytest.raises(ValueError, match=words):
        reference_support(*arguments)
