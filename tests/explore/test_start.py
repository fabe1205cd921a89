"""The command line, up to where the server would start."""

import socket
import sys

import pytest

pytest.importorskip('matplotlib')
from metricconv_mm.explore.__main__ import free_port, main, parse_arguments


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'dash', None)
    monkeypatch.delitem(sys.modules, 'metricconv_mm.explore.app', raising=False)
    monkeypatch.delitem(sys.modules, 'metricconv_mm.explore.page', raising=False)
    with pytest.raises(SystemExit, match=r"pip install 'metricconv_mm\[explore\]'"):
        main(['--no-browser'])


def test_pictures_that_cannot_be_opened(tmp_path):
    pytest.importorskip('dash')
    with pytest.raises(SystemExit, match='no picture'):
        main(['--image', str(tmp_path / 'none.png'), '--no-browser'])
    (tmp_path / 'text.png').write_text('text')
    with pytest.raises(SystemExit, match='is no picture'):
        main(['--image', str(tmp_path / 'text.png'), '--no-browser'])


@pytest.mark.parametrize('arguments, message', [(['config.py'], 'needs a checkpoint'), (['--port', '70000'], '0 to 65535')])
def test_arguments_that_do_not_fit(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        with pytest.raises(SystemExit, match='choose another with --port'):
            free_port(other.getsockname()[1])
    assert free_port(0) > 0
