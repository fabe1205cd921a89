"""The page at work: what happens when a control moves."""

from __future__ import annotations

import logging
import math
from dataclasses import fields
from typing import Any
from uuid import uuid4

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update
from dash.exceptions import PreventUpdate

from . import page
from .controls import Controls
from .figures import close_up, filtered_figure, picture_figure
from .filters import Filtered
from .pictures import from_upload
from .turns import Superseded
from .workshop import Workshop

NAMES = [field.name for field in fields(Controls)]
CONTROLS = [Input(name, 'value') for name in NAMES]


def build(workshop: Workshop) -> Dash:
    """The app, which ``app.run`` serves."""
    app = Dash(__name__, title='Metric convolutions', update_title='computing ...', serve_locally=True)
    layers = list(workshop.trained.layers) if workshop.trained else []
    app.layout = lambda: page.layout(workshop.first, layers, uuid4().hex)

    @app.callback(
        Output('picture', 'data'),
        Output('sample', 'value'),
        Output('pixel', 'data', allow_duplicate=True),
        Output('message', 'children', allow_duplicate=True),
        Output('upload', 'contents'),
        Input('upload', 'contents'),
        Input('sample', 'value'),
        State('upload', 'filename'),
        prevent_initial_call=True,
    )
    def open_picture(contents: str | None, sample: str | None, name: str | None) -> tuple:
        if ctx.triggered_id == 'sample' and sample:
            return sample, no_update, None, '', no_update
        if ctx.triggered_id == 'sample' or not contents:
            raise PreventUpdate
        try:
            # no sample is chosen and nothing uploaded any more, so that each can be again
            return workshop.add(from_upload(contents, name or 'the file')), None, None, '', None
        except Exception as error:
            return *[no_update] * 3, words(error), None

    # in the browser, which knows how large the picture is that was clicked
    app.clientside_callback(
        ClientsideFunction('explore', 'choose'),
        Output('pixel', 'data'),
        Output('picture-graph', 'clickData'),
        Output('close-graph', 'clickData'),
        Input('picture-graph', 'clickData'),
        Input('close-graph', 'clickData'),
        prevent_initial_call=True,
    )

    @app.callback(
        Output('picture-graph', 'figure'),
        Output('close-graph', 'figure'),
        Output('numbers', 'children'),
        Output('picture-graph-caption', 'children'),
        Output('message', 'children'),
        Input('picture', 'data'),
        Input('side', 'value'),
        Input('pixel', 'data'),
        State('tab', 'data'),
        *CONTROLS,
    )
    def show_balls(key: str, side: str, pixel: list | None, tab: str, *values: Any) -> tuple:
        try:
            controls = read_controls(values)
            scene, balls = workshop.balls(key, int(side), spot_of(pixel), controls, tab)
            name, (rows, columns) = workshop.picture(key).name, scene.seen.shape[1:]
            revision = f'{key} {columns} {rows}'
            caption = [
                f'{name}, {columns} x {rows} pixels',
                f' ({scene.note})' if scene.note else '',
                '. Click a pixel, or move it with the arrow keys; scroll to zoom, double-click to see all.',
            ]
            figures = picture_figure(scene.seen, balls, revision, scene.field.pitch), close_up(scene.seen, balls)
        except Superseded as newer:
            raise PreventUpdate from newer
        except Exception as error:
            return *[no_update] * 4, words(error)
        return *figures, listed(balls.numbers), ''.join(caption), balls.note

    @app.callback(
        Output('spot', 'data'),
        Input('picture', 'data'),
        Input('side', 'value'),
        Input('pixel', 'data'),
        Input('over', 'value'),
        Input('source', 'value'),
        Input('layer', 'value'),
        State('spot', 'data'),
        State('tab', 'data'),
        *[State(name, 'value') for name in NAMES],
    )
    def choose_spot(*arguments: Any) -> Any:
        key, side, pixel, _, _, _, before, tab, *values = arguments
        try:
            spot = workshop.spot(key, int(side), spot_of(pixel), read_controls(tuple(values)), tab)
        except Exception as error:
            # the others say it
            raise PreventUpdate from error
        # nothing is filtered again because of a click, unless it is the part around it that is
        return no_update if spot == spot_of(before) else spot

    @app.callback(
        Output('filtered-graph', 'figure'),
        Output('filtered-graph-caption', 'children'),
        Input('picture', 'data'),
        Input('side', 'value'),
        Input('spot', 'data'),
        State('tab', 'data'),
        *CONTROLS,
    )
    def show_filtered(key: str, side: str, spot: list | None, tab: str, *values: Any) -> tuple:
        try:
            controls = read_controls(values)
            filtered = workshop.filtered(key, int(side), controls, spot_of(spot), tab)
        except Superseded as newer:
            raise PreventUpdate from newer
        except Exception as error:
            return no_update, ['Not computed: ', words(error)]
        rows, columns = filtered.image.shape[1:]
        return filtered_figure(filtered, f'{key} {columns} {rows} {filtered.corner}'), filter_caption(filtered)

    @app.callback(
        [Output(f'row-{name}', 'className') for name in page.SHOWN], Input('source', 'value'), Input('geodesic', 'value'), Input('over', 'value')
    )
    def show_controls(source: str, geodesic: list, over: str) -> list[str]:
        off = () if geodesic or over == 'geodesic' else tuple(slider.name for slider in page.GEODESIC)
        return ['row' if source in sources and name not in off else 'row hidden' for name, sources in page.SHOWN.items()]

    return app


def read_controls(values: tuple) -> Controls:
    """The controls' values, in the order of :class:`Controls`.

    Raises:
        ValueError: for what does not fit.
    """
    given = dict(zip(NAMES, values, strict=True))
    for slider in page.SLIDERS.values():
        if given[slider.name] is None:
            raise ValueError(f'{slider.label}: expected a number from {slider.low:g} to {slider.high:g}, got none, or one outside')
    return Controls(**{**given, 'geodesic': bool(given['geodesic'])})


def spot_of(stored: list | None) -> tuple[float, float] | None:
    """What the browser stores as a list."""
    return (float(stored[0]), float(stored[1])) if stored else None


def words(error: Exception) -> str:
    """What a user should read of an error; the log has all of one that nobody foresaw."""
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    logging.getLogger(__name__).exception('while computing the page')
    return f'{type(error).__name__}: {error}'


def listed(numbers: dict[str, str]) -> list:
    """Labels and values as a description list."""
    return [part for label, value in numbers.items() for part in (html.Dt(label), html.Dd(value))]


def filter_caption(filtered: Filtered) -> str:
    """What a filter has done to the noise, and to what part of the picture."""
    rows, columns = filtered.image.shape[1:]
    where = '' if filtered.whole else f' Only the {columns} x {rows} pixels around the chosen one: choose a shorter longest side to see all.'
    before, after = filtered.before, filtered.after
    if math.isinf(before):
        what = 'The same as the picture' if math.isinf(after) else f'{after:.2f} dB PSNR to the picture'
        return f'Every pixel is the mean of its samples. {what}; add noise to see what it removes.{where}'
    return f'Every pixel is the mean of its samples. PSNR {before:.2f} dB with noise, {after:.2f} dB filtered ({after - before:+.2f} dB).{where}'
