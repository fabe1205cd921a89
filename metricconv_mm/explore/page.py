"""What is on the page, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dash import dcc, html

from ..geometry import NORMS
from .controls import Controls
from .pictures import BUNDLED, SIDE, SIDES

START = Controls()
OVER = 'Whose samples the filtered picture averages; geodesic balls take some seconds'


@dataclass(frozen=True)
class Slider:
    """A number that the user chooses; ``sources`` are the metrics that it is for."""

    name: str
    label: str
    low: float
    high: float
    step: float
    help: str
    sources: tuple[str, ...] = ('shape', 'gradient', 'layer')


SHAPE = (
    Slider('radius', 'Scale (px)', 0.5, 20, 0.1, 'Radius of the ball; from the gradient: in flat regions', ('shape', 'gradient')),
    Slider('anisotropy', 'Anisotropy', 1, 12, 0.1, 'Longest over shortest axis of the ellipse of M', ('shape',)),
    Slider('angle', 'Orientation (°)', -90, 90, 1, 'Of the long axis: from the right towards down', ('shape',)),
    Slider('sharpness', 'Edge strength', 0, 100, 1, 'How much edges narrow and lengthen the ball', ('gradient',)),
    Slider('asymmetry', 'Asymmetry', 0, 1, 0.01, 'Length of the drift w in the metric M⁻¹: 0 is symmetric, 1 is no metric', ('shape', 'gradient')),
    Slider('lean', 'Leans towards (°)', -180, 180, 1, 'Where the ball lies: from the right towards down', ('shape',)),
)
GEODESIC = (
    Slider('spread', 'Heat spread (px)', 0.5, 6, 0.1, 'How far heat gets from the pixel'),
    Slider('flow_time', 'Flow (px)', 0, 10, 0.1, 'How far samples flow along the heat'),
    Slider('stencil', 'Start size', 0.1, 2, 0.05, 'Size of the samples before they flow, in tangent balls'),
)
KERNEL = (
    Slider('kernel_size', 'Kernel k', 1, 11, 2, 'k x k samples'),
    Slider('sigma', 'Noise (sigma)', 0, 0.5, 0.01, 'Standard deviation of Gaussian noise, for grey levels from 0 to 1'),
)
SLIDERS = {slider.name: slider for slider in (*SHAPE, *GEODESIC, *KERNEL)}
#: controls that are no sliders and are for some sources alone
CHOICES = {'norm': ('shape',), 'elongate': ('gradient',), 'layer': ('layer',), 'support': ('shape', 'gradient')}
#: controls that are for some sources alone: name -> sources
SHOWN = {**{name: slider.sources for name, slider in SLIDERS.items()}, **CHOICES, 'kernel_size': ('shape', 'gradient')}


def _row(name: str, label: str, control: object, help: str = '') -> html.Div:
    return html.Div([html.Label(label, title=help, htmlFor=name), control], id=f'row-{name}', className='row', title=help)


def _slider(slider: Slider) -> html.Div:
    value = getattr(START, slider.name)
    control = dcc.Slider(slider.low, slider.high, slider.step, value=value, marks=None, id=slider.name, updatemode='drag')
    return _row(slider.name, slider.label, control, slider.help)


def _choice(name: str, label: str, options: dict[str, str], value: str, help: str = '') -> html.Div:
    return _row(name, label, dcc.Dropdown(options=options, value=value, clearable=False, searchable=False, placeholder='choose one', id=name), help)


def _group(title: str, rows: Sequence[object], **options: object) -> html.Section:
    return html.Section([html.H2(title), *rows], **options)


def _card(name: str, title: str, help: object, busy: str = '', **options: object) -> html.Section:
    graph: object = dcc.Graph(id=name, config={'displayModeBar': False, 'scrollZoom': True}, responsive=True, style={'height': '370px'})
    if busy:
        graph = dcc.Loading(
            graph,
            delay_show=300,
            show_initially=False,
            overlay_style={'visibility': 'visible', 'opacity': 0.4},
            custom_spinner=html.Div(busy, className='busy', role='status'),
        )
    return html.Section([html.H2(title), graph, html.Div(help, className='help', id=f'{name}-caption')], className='card', **options)


def layout(first: str, layers: Sequence[str], tab: str) -> html.Div:
    """The page.

    Args:
        first: key of the first picture.
        layers: of the model, if there is one.
        tab: what no other page is called.
    """
    sources = {
        'gradient': "From the picture's gradient",
        'shape': 'One shape for all pixels',
        **({'layer': 'Predicted by a layer'} if layers else {}),
    }
    source = 'layer' if layers else START.source
    bundled = {name: name.capitalize() for name in BUNDLED}
    pictures = bundled if first in BUNDLED else {first: 'Yours', **bundled}
    controls = [
        _group(
            'Picture',
            [
                dcc.Upload(html.Div(['Drop a picture here, or ', html.A('choose a file')]), id='upload', className='upload'),
                _choice('sample', 'Or', pictures, first, 'Pictures that need no file'),
                _choice('side', 'Longest side', {str(side): f'{side} px' for side in SIDES}, str(SIDE), 'Larger pictures are shrunk to it'),
            ],
        ),
        _group(
            'Metric',
            [
                _choice('source', 'Comes', sources, source),
                _choice('layer', 'Layer', {name: name.removeprefix('backbone.') for name in layers}, layers[0] if layers else ''),
                _choice('norm', 'Norm', {name: name.title() for name in NORMS}, START.norm, 'How M and w make a length'),
                _choice(
                    'elongate',
                    'Long axis',
                    {'edge': 'Along edges', 'gradient': 'Across edges', 'none': 'Disks'},
                    START.elongate,
                ),
                *map(_slider, SHAPE),
            ],
        ),
        _group(
            'Kernel',
            [
                _choice('support', 'Samples lie', {'onion': 'in rings', 'polar': 'radius x angle', 'grid': 'as the grid'}, START.support),
                _choice('over', 'Average over', {'tangent': 'tangent balls', 'geodesic': 'geodesic balls (slow)'}, START.over, OVER),
                *map(_slider, KERNEL),
            ],
        ),
        _group(
            'Geodesic ball',
            [
                dcc.Checklist(options={'on': 'Show it: samples flow along the heat of the pixel'}, value=['on'], id='geodesic'),
                *map(_slider, GEODESIC),
            ],
        ),
    ]
    legend = [
        html.Span('tangent ball', className='key tangent'),
        html.Span('its k x k samples', className='key samples'),
        html.Span('geodesic ball', className='key geodesic'),
    ]
    return html.Div(
        [
            dcc.Store(id='picture', data=first),
            dcc.Store(id='pixel'),
            dcc.Store(id='spot'),
            dcc.Store(id='tab', data=tab),
            html.Header(
                [
                    html.H1('Metric convolutions'),
                    html.P(
                        'A metric convolution averages over a ball of its own at every pixel: all points that a metric F(u) = √(uᵀMu) + wᵀu calls '
                        'at most 1 away. Click a pixel, move the sliders.'
                    ),
                ]
            ),
            html.Div(id='message', role='alert'),
            html.Main(
                [
                    html.Aside(controls),
                    html.Div(
                        [
                            _card('picture-graph', 'Picture', ''),
                            _card('close-graph', 'Close-up', legend),
                            _card('filtered-graph', 'Filtered picture', '', 'Filtering ...'),
                            html.Section([html.H2('The metric here'), html.Dl(id='numbers')], className='card'),
                        ],
                        className='cards',
                    ),
                ]
            ),
        ],
        className='page',
    )
