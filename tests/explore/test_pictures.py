import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('matplotlib')
from metricconv_mm.explore import filters
from metricconv_mm.explore.controls import Controls
from metricconv_mm.explore.pictures import BUNDLED, SIDES, Picture, from_file, from_upload, shrink, with_noise
from metricconv_mm.explore.workshop import PICTURES, Workshop


def data_url(array_or_bytes, mode=None):
    data = array_or_bytes
    if not isinstance(data, bytes):
        buffer = io.BytesIO()
        Image.fromarray(data, mode).save(buffer, 'PNG')
        data = buffer.getvalue()
    return 'data:image/png;base64,' + base64.b64encode(data).decode()


@pytest.mark.parametrize('name', list(BUNDLED))
def test_bundled_pictures(name):
    image = BUNDLED[name]().image
    assert image.shape[0] == 3 and 0 <= image.min() < image.max() <= 1


@pytest.mark.parametrize(
    'array, shape',
    [
        (np.full((1, 1, 3), 200, np.uint8), (3, 1, 1)),
        (np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10), (1, 6, 10)),
        (np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8), (3, 4, 5)),
    ],
    ids=['one pixel', '16 bits', 'alpha'],
)
def test_uploads(array, shape):
    picture = from_upload(data_url(array), 'mine.png')
    assert picture.image.shape == shape and 0 <= picture.image.min() <= picture.image.max() <= 1 and picture.name == 'mine.png'
    workshop = Workshop()
    scene, balls = workshop.balls(workshop.add(picture), 64, None, Controls())
    assert scene.seen.shape == shape and np.isfinite(balls.tangent).all()


@pytest.mark.parametrize(
    'contents, message',
    [
        (data_url(b'no picture at all'), '^mine.png is no picture'),
        (data_url(b''), 'mine.png is an empty file'),
        (data_url(np.zeros((50, 50, 3), np.uint8))[:-40], 'mine.png cannot be read|mine.png did not arrive whole'),
        ('data:image/png;base64,***', 'did not arrive whole'),
        ('nonsense', 'did not arrive whole'),
    ],
)
def test_uploads_that_are_no_pictures(contents, message):
    with pytest.raises(ValueError, match=message):
        from_upload(contents, 'mine.png')


def test_large_pictures_are_shrunk_and_said_to_be(tmp_path):
    Image.fromarray(np.zeros((30, 90), np.uint8)).save(tmp_path / 'wide.png')
    wide = from_file(tmp_path / 'wide.png')
    small, note = shrink(wide, 60)
    assert small.size == (20, 60) and note == 'shrunk from 90 x 30 to 60 x 20 pixels'
    assert shrink(wide, 90) == (wide, '')
    # twice is as once
    assert shrink(small, 15)[1] == 'shrunk from 90 x 30 to 15 x 5 pixels' and shrink(small, 60)[1] == note
    assert shrink(Picture('line', torch.zeros(1, 1, 500)), 50)[0].size == (1, 50)


def test_no_more_is_kept_than_can_be_asked_for(tmp_path):
    Image.fromarray(np.zeros((1000, 2000), np.uint8)).save(tmp_path / 'large.png')
    large = from_file(tmp_path / 'large.png')
    assert max(large.size) == max(SIDES) and shrink(large, max(SIDES))[1] == 'shrunk from 2000 x 1000 to 384 x 192 pixels'


def test_noise_stays_the_same():
    picture = BUNDLED['shapes']()
    noisy = with_noise(picture, 0.2)
    assert torch.equal(noisy, with_noise(picture, 0.2)) and (noisy - picture.image).std() == pytest.approx(0.2, rel=0.02)
    assert with_noise(picture, 0.0) is picture.image


def test_a_workshop_keeps_the_newest_pictures():
    workshop = Workshop(first=Picture('first', torch.zeros(1, 2, 2)))
    keys = [workshop.first] + [workshop.add(Picture(str(i), torch.zeros(1, 2, 2))) for i in range(PICTURES)]
    assert workshop.picture(keys[-1]).name == str(PICTURES - 1) and workshop.picture('shapes').name == 'shapes'
    with pytest.raises(ValueError, match='open it again'):
        workshop.picture(keys[0])
    with pytest.raises(ValueError, match='CONFIG CHECKPOINT'):
        workshop.balls('shapes', 32, None, Controls('layer'))


def test_a_chosen_spot_stays_where_it_is_when_the_picture_is_shrunk():
    workshop, spot = Workshop(), (0.75, 0.25)
    for side in (256, 64):
        assert workshop.balls('shapes', side, spot, Controls(geodesic=False))[1].centre == pytest.approx((0.75 * side, 0.25 * side), abs=1)


def test_geodesic_balls_are_averaged_around_the_spot_of_a_large_picture(monkeypatch):
    workshop, spot = Workshop(), (0.5, 0.5)
    over = Controls(over='geodesic', kernel_size=1)
    assert workshop.spot('shapes', 64, spot, over) is None and workshop.spot('shapes', 64, spot, Controls()) is None
    monkeypatch.setattr(filters, 'MOST', 60**2)
    monkeypatch.setattr(filters, 'MOST_IN_PYTHON', 60**2)
    assert workshop.spot('shapes', 64, None, over) == spot
    part = workshop.filtered('shapes', 64, over, spot)
    assert not part.whole and part.image.shape == (3, 6, 6) and part.corner == (29, 29)
    # asked for again it is there
    assert workshop.filtered('shapes', 64, Controls(over='geodesic', kernel_size=1, geodesic=False), spot) is part
