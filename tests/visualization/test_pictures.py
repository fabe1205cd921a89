import numpy as np
import pytest

pytest.importorskip('matplotlib')
pytest.importorskip('PIL')
from matplotlib.figure import Figure
from PIL import Image

from metricconv_mm.visualization import check_figure, read_picture, save_figure


@pytest.fixture
def colours():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_pictures_of_every_depth_are_eight_bit_rgb(colours, tmp_path):
    Image.fromarray(colours).save(tmp_path / 'rgb.png')
    assert (read_picture(tmp_path / 'rgb.png') == colours).all()
    Image.fromarray(colours[..., 0]).save(tmp_path / 'grey.png')
    assert (read_picture(tmp_path / 'grey.png') == colours[..., :1]).all()
    sixteen = colours[..., 0].astype(np.uint16) * 257
    for name in ('deep.png', 'deep.tif'):
        Image.fromarray(sixteen).save(tmp_path / name)
        assert (read_picture(tmp_path / name) == colours[..., :1]).all()
    Image.fromarray(colours[..., 0] > 127).save(tmp_path / 'bits.png')
    assert (read_picture(tmp_path / 'bits.png') == 255 * (colours[..., :1] > 127)).all()
    Image.fromarray(colours).convert('CMYK').save(tmp_path / 'cmyk.tif')
    assert read_picture(tmp_path / 'cmyk.tif').shape == (5, 7, 3)


def test_what_is_transparent_is_white(colours, tmp_path):
    alpha = np.full((5, 7, 1), 255, np.uint8)
    alpha[0, 0], alpha[1, 1] = 0, 51
    Image.fromarray(np.concatenate([colours, alpha], 2)).save(tmp_path / 'alpha.png')
    found = read_picture(tmp_path / 'alpha.png')
    assert (found[0, 0] == 255).all() and (found[2] == colours[2]).all()
    assert np.allclose(found[1, 1], 0.8 * 255 + 0.2 * colours[1, 1], atol=1)
    image = Image.new('P', (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / 'palette.png', transparency=1)
    found = read_picture(tmp_path / 'palette.png')
    assert found[0, 0].tolist() == [255, 0, 0] and (found[1:] == 255).all()


def test_photographs_are_turned_and_resized(colours, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours).save(tmp_path / 'turned.png', exif=exif)
    assert (read_picture(tmp_path / 'turned.png') == np.rot90(colours, -1)).all()
    assert read_picture(tmp_path / 'turned.png', [4]).shape == (4, 4, 3)
    assert read_picture(tmp_path / 'turned.png', [4, 9]).shape == (4, 9, 3)


def test_what_is_no_picture_is_refused(colours, tmp_path):
    with pytest.raises(FileNotFoundError, match='no picture'):
        read_picture(tmp_path / 'none.png')
    (tmp_path / 'text.png').write_text('text')
    with pytest.raises(ValueError, match=r'text\.png is no picture'):
        read_picture(tmp_path / 'text.png')
    Image.fromarray(np.tile(colours, (40, 40, 1))).save(tmp_path / 'whole.jpg')
    (tmp_path / 'cut.jpg').write_bytes((tmp_path / 'whole.jpg').read_bytes()[:2000])
    with pytest.raises(ValueError, match=r'cut\.jpg cannot be read'):
        read_picture(tmp_path / 'cut.jpg')
    for name, levels in (('float.tif', colours[..., 0].astype(np.float32)), ('long.tif', 10000 * colours[..., 0].astype(np.int32))):
        Image.fromarray(levels).save(tmp_path / name)
        with pytest.raises(ValueError, match='expected (floating point grey levels in|grey levels of 16 bits).* rescale them'):
            read_picture(tmp_path / name)
    Image.fromarray(np.array([[0.5, np.nan], [np.inf, 0.1]], np.float32)).save(tmp_path / 'nan.tif')
    with pytest.raises(ValueError, match='nan.tif has 2 pixels that are NaN or infinite'):
        read_picture(tmp_path / 'nan.tif')


def test_figures_make_their_folder_and_refuse_unknown_formats(tmp_path):
    save_figure(Figure(), tmp_path / 'new' / 'figure.png')
    assert (tmp_path / 'new' / 'figure.png').read_bytes().startswith(b'\x89PNG')
    for name in ('figure.xyz', 'figure', ''):
        with pytest.raises(ValueError, match=rf'{name}.*png'):
            save_figure(Figure(), tmp_path / name)


def test_places_that_cannot_hold_a_figure_show_before_the_work(tmp_path):
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'file').write_text('')
    for place, reason in (('folder.png', 'it is a folder'), ('file/figure.png', 'choose another place')):
        with pytest.raises(ValueError, match=f'no picture can be written to .*{reason}'):
            check_figure(tmp_path / place)
