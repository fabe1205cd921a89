#!/usr/bin/env python
"""Write the README's table of results from the metafiles: python tools/zoo.py [--check]."""

import argparse
import sys
from pathlib import Path

from metricconv_mm.integrations.mm.tables import read_models, with_table, zoo_table

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='only say whether it is up to date')
    parser.add_argument('--page', type=Path, default=ROOT / 'README.md', help='page with the markers (default: README.md)')
    args = parser.parse_args()
    page = args.page.read_text(encoding='utf-8')
    try:
        wanted = with_table(page, zoo_table(read_models(ROOT)))
    except ValueError as error:
        sys.exit(f'{args.page.name}: {error}')
    if args.check and page != wanted:
        sys.exit(f'{args.page.name} is not what the metafiles say: run python tools/zoo.py')
    if not args.check:
        args.page.write_text(wanted, encoding='utf-8')


if __name__ == '__main__':
    main()
