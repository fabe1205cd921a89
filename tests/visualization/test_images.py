import numpy as np
import pytest
import torch
from PIL import Image

from metricconv_mm.visualization import draw_panels, read_image


@pytest.fixture
def save(tmp_path):
    def save(image, name='image.png', **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def levels():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_grey_and_colour(save, levels):
    colour = read_image(save(Image.fromarray(levels)))
    assert colour.shape == (3, 5, 7) and torch.equal(colour, torch.from_numpy(levels).permute(2, 0, 1).float() / 255)
    grey = read_image(save(Image.fromarray(levels[..., 0])))
    assert grey.shape == (1, 5, 7) and torch.equal(grey[0], colour[0])


def test_colour_becomes_luma(save, levels):
    grey = read_image(save(Image.fromarray(levels)), grey=True)
    assert torch.allclose(grey[0].double(), torch.from_numpy(levels / 255) @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.double), atol=1e-6)
    same = save(Image.fromarray(levels[..., 0]))
    assert torch.equal(read_image(same, grey=True), read_image(same))


@pytest.mark.parametrize('name', ['image.png', 'image.tif'])
def test_sixteen_bits(save, name):
    levels = np.array([[0, 1, 65535], [256, 40000, 3]], np.uint16)
    image = read_image(save(Image.fromarray(levels), name))
    assert image.shape == (1, 2, 3) and torch.allclose(image[0].double(), torch.from_numpy(levels / 65535), atol=1e-7)


def test_what_is_transparent_shows_white(save):
    picture = Image.fromarray(np.array([[[0, 0, 255, 255], [0, 0, 0, 0]]], np.uint8))
    assert read_image(save(picture))[:, 0].T.tolist() == [[0, 0, 1], [1, 1, 1]]
    grey = Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8), mode='LA')
    assert read_image(save(grey)).tolist() == [[[0, 1]]]


broken_before_13 = pytest.mark.skipif(int(Image.__version__.split('.')[0]) < 13, reason='Pillow before 13 cannot read the YCbCr TIFF that it writes')


@pytest.mark.parametrize(('mode', 'channels'), [('P', 3), ('CMYK', 3), ('1', 1), ('LAB', 3), pytest.param('YCbCr', 3, marks=broken_before_13)])
def test_other_modes_become_grey_or_colour(save, levels, mode, channels):
    image = read_image(save(Image.fromarray(levels).convert(mode), 'image.tif' if mode != 'P' else 'image.png'))
    assert image.shape == (channels, 5, 7) and 0 <= image.min() < image.max() <= 1


def test_a_picture_is_turned_upright(save, levels):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    upright = read_image(save(Image.fromarray(levels), exif=exif))
    assert torch.equal(upright, torch.from_numpy(levels).permute(2, 0, 1).float().rot90(-1, (1, 2)) / 255)


def test_a_single_pixel(save):
    assert read_image(save(Image.new('L', (1, 1), 51))).tolist() == [[[pytest.approx(0.2)]]]


@pytest.mark.parametrize('content', [b'', b'text, not a picture', b'\x89PNG\r\n\x1a\n'])
def test_what_is_no_picture_is_said(tmp_path, content):
    (tmp_path / 'image.png').write_bytes(content)
    with pytest.raises(ValueError, match=r'image.png (is no picture|cannot be read)'):
        read_image(tmp_path / 'image.png')


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
@pytest.mark.parametrize('name', ['image.png', 'image.jpg', 'image.bmp'])
def test_a_picture_cut_short_is_said(save, name, share):
    path = save(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), name)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match='cannot be read|no picture'):
        read_image(path)


def test_what_is_missing_or_a_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='give the path of an image file'):
        read_image(tmp_path / 'none.png')
    with pytest.raises(FileNotFoundError, match='it is a folder'):
        read_image(tmp_path)


def test_floating_point_must_be_in_range(save):
    assert read_image(save(Image.fromarray(np.float32([[0.25, 1.0]])), 'image.tif')).tolist() == [[[0.25, 1.0]]]
    for bad, message in (([[0.0, 255.0]], 'rescale them'), ([[np.nan, 0.5]], 'replace them')):
        with pytest.raises(ValueError, match=message):
            read_image(save(Image.fromarray(np.float32(bad)), 'image.tif'))


def test_panels_show_every_picture_under_its_label():
    figure = draw_panels([('a', torch.rand(1, 5, 7)), ('b', torch.rand(3, 5, 7)), ('c', torch.full((1, 5, 7), torch.nan))], columns=2, title='all')
    assert [axes.get_title() for axes in figure.axes] == ['a', 'b', 'c']
    assert figure.axes[1].images[0].get_array().shape == (5, 7, 3)
