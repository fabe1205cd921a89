"""The page at work: what happens when a control moves."""

from __future__ import annotations

import logging
import math
from dataclasses import fields
from typing import Any

from dash import Dash, Input, Output, State, ctx, html, no_update
from dash.exceptions import PreventUpdate

from . import page
from .controls import Controls
from .figures import close_up, filtered_figure, picture_figure
from .pictures import from_upload
from .workshop import Workshop

NAMES = [field.name for field in fields(Controls)]
CONTROLS = [Input(name, 'value') for name in NAMES]


def build(workshop: Workshop) -> Dash:
    """The app, which ``app.run`` serves."""
    app = Dash(__name__, title='Metric convolutions', update_title='computing ...', serve_locally=True)
    layers = list(workshop.trained.layers) if workshop.trained else []
    app.layout = page.layout(workshop.first, layers)

    @app.callback(
        Output('picture', 'data'),
        Output('sample', 'value'),
        Output('pixel', 'data', allow_duplicate=True),
        Output('message', 'children', allow_duplicate=True),
        Input('upload', 'contents'),
        Input('sample', 'value'),
        State('upload', 'filename'),
        prevent_initial_call=True,
    )
    def open_picture(contents: str | None, sample: str | None, name: str | None) -> tuple:
        if ctx.triggered_id == 'sample' and sample:
            return sample, no_update, None, ''
        if ctx.triggered_id == 'sample' or not contents:
            raise PreventUpdate
        try:
            # no sample is chosen any more, so that each of them can be
            return workshop.add(from_upload(contents, name or 'the file')), None, None, ''
        except Exception as error:
            return *[no_update] * 3, words(error)

    @app.callback(Output('pixel', 'data'), Input('picture-graph', 'clickData'), Input('close-graph', 'clickData'), prevent_initial_call=True)
    def choose_pixel(picture: dict | None, close: dict | None) -> dict:
        click = close if ctx.triggered_id == 'close-graph' else picture
        if not click:
            raise PreventUpdate
        return {axis: click['points'][0][axis] for axis in 'xy'}

    @app.callback(
        Output('picture-graph', 'figure'),
        Output('close-graph', 'figure'),
        Output('numbers', 'children'),
        Output('picture-graph-caption', 'children'),
        Output('message', 'children'),
        Input('picture', 'data'),
        Input('side', 'value'),
        Input('pixel', 'data'),
        *CONTROLS,
    )
    def show_balls(key: str, side: str, pixel: dict | None, *values: Any) -> tuple:
        try:
            controls = read_controls(values)
            scene, balls = workshop.balls(key, int(side), (pixel or {}).get('x'), (pixel or {}).get('y'), controls)
            name, (rows, columns) = workshop.picture(key).name, scene.seen.shape[1:]
            revision = f'{key} {columns} {rows}'
            caption = [
                f'{name}, {columns} x {rows} pixels',
                f' ({scene.note})' if scene.note else '',
                '. Click a pixel; scroll to zoom, double-click to see all.',
            ]
            figures = picture_figure(scene.seen, balls, revision), close_up(scene.seen, balls)
        except Exception as error:
            return *[no_update] * 4, words(error)
        return *figures, listed(balls.numbers), ''.join(caption), balls.note

    @app.callback(
        Output('filtered-graph', 'figure'),
        Output('filtered-graph-caption', 'children'),
        Input('picture', 'data'),
        Input('side', 'value'),
        *CONTROLS,
    )
    def show_filtered(key: str, side: str, *values: Any) -> tuple:
        try:
            controls = read_controls(values)
            filtered = workshop.filtered(key, int(side), controls)
        except Exception as error:
            return no_update, ['Not computed: ', words(error)]
        rows, columns = filtered.image.shape[1:]
        return filtered_figure(filtered, f'{key} {columns} {rows}'), filter_caption(filtered.before, filtered.after)

    @app.callback([Output(f'row-{name}', 'className') for name in page.SHOWN], Input('source', 'value'), Input('geodesic', 'value'))
    def show_controls(source: str, geodesic: list) -> list[str]:
        off = () if geodesic else tuple(slider.name for slider in page.GEODESIC)
        return ['row' if source in sources and name not in off else 'row hidden' for name, sources in page.SHOWN.items()]

    return app


def read_controls(values: tuple) -> Controls:
    """The controls' values, in the order of :class:`Controls`."""
    given = dict(zip(NAMES, values, strict=True))
    return Controls(**{**given, 'geodesic': bool(given['geodesic'])})


def words(error: Exception) -> str:
    """What a user should read of an error; the log has all of one that nobody foresaw."""
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    logging.getLogger(__name__).exception('while computing the page')
    return f'{type(error).__name__}: {error}'


def listed(numbers: dict[str, str]) -> list:
    """Labels and values as a description list."""
    return [part for label, value in numbers.items() for part in (html.Dt(label), html.Dd(value))]


def filter_caption(before: float, after: float) -> str:
    """What a filter has done to the noise."""
    mean = 'Every pixel is the mean of its samples'
    if math.isinf(before):
        return f'{mean}. {after:.2f} dB PSNR to the picture; add noise to see what it removes.'
    return f'{mean}. PSNR {before:.2f} dB with noise, {after:.2f} dB filtered ({after - before:+.2f} dB).'
