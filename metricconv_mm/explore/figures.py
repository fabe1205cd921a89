"""The figures of the page, as Plotly draws them."""

from __future__ import annotations

import base64
import io

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from torch import Tensor

from ..visualization import displayable
from ..visualization.pixel_balls import GEODESIC, TANGENT
from .filters import Filtered
from .views import Balls

SAMPLES = '#ffd400'
#: pixels that the close-up shows beyond the balls
MARGIN = 1.5


def data_url(image: Tensor) -> str:
    """``Tensor[C, H, W]`` in [0, 1] as a PNG that a page can hold."""
    buffer = io.BytesIO()
    Image.fromarray((255 * displayable(image)).round().astype(np.uint8)).save(buffer, 'PNG', compress_level=1)
    return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _base(image: Tensor, *, corner: tuple[int, int] = (0, 0), hover: str) -> go.Figure:
    """A picture whose pixel (0, 0) is at ``corner``, (x, y)."""
    rows, columns = image.shape[1:]
    (left, top) = corner
    figure = go.Figure(go.Image(source=data_url(image), x0=left, y0=top, hovertemplate=hover))
    figure.update_layout(
        margin={'l': 4, 'r': 4, 't': 4, 'b': 4},
        paper_bgcolor='rgba(0,0,0,0)',
        plot_bgcolor='rgba(0,0,0,0)',
        dragmode='pan',
        showlegend=False,
        hoverlabel={'font': {'size': 12}},
    )
    # not 'domain', of which Plotly keeps that of the picture before
    figure.update_xaxes(visible=False, range=[left - 0.5, left + columns - 0.5], constrain='range')
    figure.update_yaxes(visible=False, range=[top + rows - 0.5, top - 0.5], constrain='range', scaleanchor='x')
    return figure


def _draw(figure: go.Figure, balls: Balls, *, width: float, marker: float) -> None:
    # what is skipped leaves clicks to the picture below
    common = {'hoverinfo': 'skip', 'mode': 'lines'}
    figure.add_scatter(x=balls.tangent[:, 0], y=balls.tangent[:, 1], name='tangent', line={'color': TANGENT, 'width': width}, **common)
    if balls.geodesic is not None and balls.geodesic_samples is not None:
        figure.add_scatter(x=balls.geodesic[:, 0], y=balls.geodesic[:, 1], name='geodesic', line={'color': GEODESIC, 'width': width}, **common)
        _points(figure, balls.geodesic_samples, 'geodesic samples', GEODESIC, 0.75 * marker)
    _points(figure, balls.samples, 'samples', SAMPLES, marker)
    figure.add_scatter(
        x=[balls.centre[0]],
        y=[balls.centre[1]],
        name='centre',
        mode='markers',
        hoverinfo='skip',
        marker={'symbol': 'cross-thin', 'size': 2 * marker, 'line': {'color': 'white', 'width': 2}},
    )


def _points(figure: go.Figure, points: np.ndarray, name: str, colour: str, size: float) -> None:
    marker = {'color': colour, 'size': size, 'line': {'color': 'black', 'width': 0.8}}
    figure.add_scatter(x=points[:, 0], y=points[:, 1], name=name, mode='markers', hoverinfo='skip', marker=marker)


def picture_figure(image: Tensor, balls: Balls, revision: str, pitch: tuple[float, float]) -> go.Figure:
    """The picture and the balls of one pixel; the user's zoom stays while ``revision`` does, and arrow keys move by ``pitch`` (assets/page.js)."""
    figure = _base(image, hover='column %{x}, row %{y}: click to see its ball<extra></extra>')
    _draw(figure, balls, width=2, marker=3.5)
    return figure.update_layout(uirevision=revision, meta={'size': [image.shape[2], image.shape[1]], 'pitch': pitch})


def close_up(image: Tensor, balls: Balls) -> go.Figure:
    """The surroundings of one pixel, as large as its balls, or all of the picture where they are larger."""
    drawn = [points for points in (balls.tangent, balls.samples, balls.geodesic, balls.geodesic_samples) if points is not None]
    reach = max(float(np.abs(points - balls.centre).max()) for points in drawn) + MARGIN
    x, y = balls.centre
    rows, columns = image.shape[1:]
    reach = min(reach, float(max(rows, columns)))
    left, top = max(int(x - reach) - 1, 0), max(int(y - reach) - 1, 0)
    crop = image[:, top : int(y + reach) + 3, left : int(x + reach) + 3]
    figure = _base(crop, corner=(left, top), hover='column %{x}, row %{y}<extra></extra>')
    _draw(figure, balls, width=3, marker=8)
    figure.update_xaxes(range=[x - reach, x + reach])
    figure.update_yaxes(range=[y + reach, y - reach])
    return figure


def filtered_figure(filtered: Filtered, revision: str) -> go.Figure:
    """The filtered picture."""
    figure = _base(filtered.image, corner=filtered.corner, hover='column %{x}, row %{y}<extra></extra>')
    return figure.update_layout(uirevision=revision)
