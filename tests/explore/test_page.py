"""The page in a browser, as a user sees it; `make test-explore` installs what it needs but for the browser."""

import shutil
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('dash', reason="the page needs dash: pip install 'metricconv_mm[explore]'")
api = pytest.importorskip('playwright.sync_api', reason='playwright drives the browser: pip install playwright')
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
if CHROMIUM is None:
    pytest.skip('no browser: install Chromium (Debian: apt-get install chromium)', allow_module_level=True)

PATIENCE = 120_000  # milliseconds, on a machine that is busy with other work


@pytest.fixture(scope='module')
def address():
    from werkzeug.serving import make_server

    from metricconv_mm.explore.app import build
    from metricconv_mm.explore.workshop import Workshop

    server = make_server('127.0.0.1', 0, build(Workshop()).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()
    thread.join()


@pytest.fixture(scope='module')
def browser():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        # one for all tests: its cache keeps Dash's scripts
        yield browser.new_context(viewport={'width': 1440, 'height': 930})
        browser.close()


class Page:
    """What a user does on the page, and sees of it."""

    def __init__(self, page, address):
        self.page, self.problems, self.foreign = page, [], []
        page.set_default_timeout(PATIENCE)
        page.on('pageerror', lambda error: self.problems.append(str(error)))
        page.on('console', lambda message: self.problems.append(message.text) if message.type == 'error' else None)
        page.on('response', lambda response: self.problems.append(response.url) if response.status >= 500 else None)
        page.on('request', lambda request: self.foreign.append(request.url) if not request.url.startswith((address, 'data:', 'blob:')) else None)
        page.goto(address)
        self.wait('() => (document.querySelector("#filtered-graph-caption")?.innerText ?? "") !== ""')
        self.wait('() => document.querySelector("#picture-graph .js-plotly-plot")?.data?.length > 2')

    def wait(self, condition, argument=None):
        self.page.wait_for_function(condition, arg=argument, timeout=PATIENCE)

    def text(self, name):
        return self.page.inner_text(f'#{name}')

    def trace(self, name, graph='picture-graph'):
        """The points of what the figure calls so, ``[n, 2]``."""
        found = self.page.evaluate(
            """([graph, name]) => {
                const trace = document.querySelector(`#${graph} .js-plotly-plot`)._fullData.find(trace => trace.name === name);
                return trace ? [Array.from(trace.x), Array.from(trace.y)] : null; }""",
            [graph, name],
        )
        return None if found is None else np.array(found).T

    def picture(self, graph):
        return self.page.evaluate('graph => document.querySelector(`#${graph} .js-plotly-plot`).data[0].source', graph)

    def changed(self, text, act):
        """Do something, and wait until the text of an element is another."""
        before = self.text(text)
        act()
        self.wait('([name, before]) => document.querySelector(`#${name}`).innerText !== before', [text, before])

    def click(self, x, y):
        """Click a pixel of the picture."""
        at = self.page.evaluate(
            """([x, y]) => {
                const plot = document.querySelector('#picture-graph .js-plotly-plot'), box = plot.getBoundingClientRect();
                const { xaxis, yaxis } = plot._fullLayout;
                return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)]; }""",
            [x, y],
        )
        self.page.mouse.click(*at)

    def press(self, slider, *keys):
        for key in keys:
            self.page.locator(f'#{slider} [role=slider]').press(key)

    def choose(self, name, text):
        self.page.click(f'#{name}')
        self.page.click(f'.dash-options-list-option:has-text("{text}")')

    def open(self, path):
        self.page.set_input_files('#upload input[type=file]', str(path))


@pytest.fixture
def page(browser, address):
    page = Page(browser.new_page(), address)
    yield page
    page.page.close()
    assert not page.problems


def test_the_page_shows_a_picture_and_a_ball_at_once_and_needs_no_other_server(page):
    tangent = page.trace('tangent')
    assert np.abs(tangent - 128).max() < 20 and page.trace('geodesic') is not None
    assert len(page.trace('samples', 'close-graph')) == 25
    assert page.picture('filtered-graph') != page.picture('picture-graph')
    assert not page.foreign


def test_a_click_draws_the_ball_there(page):
    page.changed('numbers', lambda: page.click(192, 64))
    (centre,) = page.trace('centre')
    assert centre == pytest.approx((192, 64))
    tangent = page.trace('tangent')
    assert (tangent.min(0) < centre).all() and (centre < tangent.max(0)).all()
    assert f'row {centre[1]:.0f}, column {centre[0]:.0f}' in page.text('numbers')


def test_sliders_change_ball_and_filtered_picture(page):
    before, filtered = page.trace('tangent'), page.picture('filtered-graph')
    page.changed('numbers', lambda: page.press('radius', 'Home'))
    assert np.ptp(page.trace('tangent'), axis=0).max() < 0.5 * np.ptp(before, axis=0).max()
    page.wait('before => document.querySelector("#filtered-graph .js-plotly-plot").data[0].source !== before', filtered)
    page.changed('filtered-graph-caption', lambda: page.press('sigma', 'End'))
    page.wait('() => document.querySelector("#filtered-graph-caption").innerText.includes("with noise")')


def test_shapes_have_controls_of_their_own(page):
    assert not page.page.is_visible('#row-angle') and page.page.is_visible('#row-sharpness')
    page.changed('numbers', lambda: page.choose('source', 'One shape'))
    page.page.wait_for_selector('#row-angle', state='visible')
    assert not page.page.is_visible('#row-sharpness')
    page.changed('message', lambda: page.choose('norm', 'Matsumoto'))
    assert 'needs less than 0.5' in page.text('message')


def test_the_same_click_counts_again_and_arrow_keys_move_the_pixel(page, tmp_path):
    page.changed('numbers', lambda: page.click(192, 64))
    page.changed('numbers', lambda: page.choose('sample', 'Photograph'))
    page.changed('numbers', lambda: page.choose('sample', 'Shapes'))
    page.changed('numbers', lambda: page.click(192, 64))
    assert 'row 64, column 192' in page.text('numbers')
    page.page.focus('#picture-graph')
    for key, where in (('ArrowLeft', 'row 64, column 191'), ('Shift+ArrowDown', 'row 74, column 191')):
        page.changed('numbers', lambda key=key: page.page.keyboard.press(key))
        assert where in page.text('numbers')
    # where it was, in a quarter of the pixels
    page.changed('numbers', lambda: page.choose('side', '64 px'))
    assert 'row 18, column 47' in page.text('numbers')


def test_geodesic_balls_are_averaged_on_request(page, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)).save(tmp_path / 'small.png')
    page.changed('filtered-graph-caption', lambda: page.open(tmp_path / 'small.png'))
    before = page.picture('filtered-graph')
    page.changed('filtered-graph-caption', lambda: page.choose('over', 'geodesic'))
    assert 'dB PSNR' in page.text('filtered-graph-caption') and page.picture('filtered-graph') != before


def test_controls_have_names(page):
    names = page.page.evaluate('() => [...document.querySelectorAll(".row [role=slider], .row button")].map(control => control.ariaLabel)')
    assert 'Asymmetry' in names and 'Average over: tangent balls' in names and all(names)


def test_a_server_that_is_gone_is_a_message(page):
    page.page.route('**/_dash-update-component*', lambda route: route.abort())
    page.changed('message', lambda: page.click(70, 80))
    assert 'does not answer' in page.text('message')
    # what the browser says of it is what was asked for
    page.problems.clear()


def test_an_asymmetry_of_one_is_a_message(page):
    shown = page.trace('tangent')
    page.changed('message', lambda: page.press('asymmetry', 'End'))
    assert 'Asymmetry 1: expected less than 1' in page.text('message') and np.array_equal(page.trace('tangent'), shown)
    page.changed('message', lambda: page.press('asymmetry', 'ArrowLeft'))
    assert page.text('message') == ''


def test_pictures_are_opened(page, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 500, 4), dtype=np.uint8)).save(tmp_path / 'wide.png')
    page.changed('picture-graph-caption', lambda: page.open(tmp_path / 'wide.png'))
    assert 'wide.png, 256 x 15 pixels (shrunk from 500 x 30' in page.text('picture-graph-caption')
    page.changed('picture-graph-caption', lambda: page.choose('sample', 'Shapes'))
    assert 'shapes, 256 x 256' in page.text('picture-graph-caption')


def test_files_that_are_no_pictures_are_a_message(page, tmp_path):
    (tmp_path / 'text.png').write_text('no picture')
    page.changed('message', lambda: page.open(tmp_path / 'text.png'))
    assert 'text.png is no picture' in page.text('message') and 'shapes' in page.text('picture-graph-caption')
    (tmp_path / 'empty.png').touch()
    page.changed('message', lambda: page.open(tmp_path / 'empty.png'))
    assert 'empty.png is an empty file' in page.text('message')
    page.changed('message', lambda: page.click(70, 80))
    assert page.text('message') == ''
