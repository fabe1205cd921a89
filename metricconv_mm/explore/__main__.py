"""Start the page: python -m metricconv_mm.explore [CONFIG CHECKPOINT] [--image FILE] [--port N] [--no-browser]."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import threading
import webbrowser


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m metricconv_mm.explore', description='A local web page that shows metrics, their unit balls and what they make of a picture'
    )
    parser.add_argument('config', nargs='?', help='config of a trained model, whose layers predict the metric')
    parser.add_argument('checkpoint', nargs='?', help='its checkpoint')
    parser.add_argument('--image', metavar='FILE', help='picture to start with (default: one drawn in code)')
    parser.add_argument('--port', type=int, default=8050, help='port to serve on, 0 for any that is free (default: 8050)')
    parser.add_argument('--no-browser', action='store_true', help='do not open a browser')
    args = parser.parse_args(arguments)
    if args.config and not args.checkpoint:
        parser.error('a config needs a checkpoint with it: CONFIG CHECKPOINT')
    if not 0 <= args.port < 65536:
        parser.error(f'--port: expected 0 to 65535, got {args.port}')
    return args


def free_port(port: int) -> int:
    """The port, or any if it is 0; exits with a message when another program has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('127.0.0.1', port))
        except OSError as error:
            sys.exit(f'port {port} cannot be used ({error.strerror}): choose another with --port, or 0 for any')
        return probe.getsockname()[1]


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    try:
        from .app import build
        from .model import Trained
        from .pictures import from_file
        from .workshop import Workshop

        workshop = Workshop(from_file(args.image) if args.image else None, Trained(args.config, args.checkpoint) if args.config else None)
    except ModuleNotFoundError as error:
        extra = 'explore' if (error.name or '').split('.')[0] in ('dash', 'plotly', 'matplotlib', 'PIL') else 'onedl'
        sys.exit(f"{error.name} is missing: pip install 'metricconv_mm[{extra}]'")
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    # before the address is said: nobody answers there while the page is put together
    app, port = build(workshop), free_port(args.port)
    address = f'http://127.0.0.1:{port}/'
    print(f'metric convolutions: {address} (Ctrl+C stops it)', flush=True)
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    if not args.no_browser:
        threading.Timer(1.0, webbrowser.open, [address]).start()
    app.run(host='127.0.0.1', port=port, debug=False)


if __name__ == '__main__':
    main()
