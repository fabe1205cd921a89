#!/usr/bin/env python
"""Put the runs of a table together: python tools/collect_table.py WORK_DIR [--out FOLDER]. Beside the paper's numbers, where it has them."""

import argparse
import sys
from pathlib import Path

from metricconv_mm.integrations.mm.tables import add_results, collect, geometry_markdown, load_table, markdown, table_of, write_csv
from metricconv_mm.visualization import Point, draw_scores

ROOT = Path(__file__).resolve().parent.parent


def points(rows):
    several = len({(row.cell.dataset, row.cell.depth) for row in rows}) > 1
    for row in rows:
        score, cell = row.score('top1'), row.cell
        values = [found.metrics['top1'] for found in row.done]
        panel = f'{cell.dataset}, ResNet-{cell.depth}' if several else ''
        yield Point(panel, cell.setting, cell.method, values, *(score or (None, None)), cell.paper.get('top1'))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', type=Path, help='folder of the runs, as given to run_table.py')
    parser.add_argument('--table', help='name or .yml file of the table (default: the one that the runs were started for)')
    parser.add_argument('--out', type=Path, help='folder for table.md, table.csv, runs.csv and table.png (default: WORK_DIR)')
    parser.add_argument('--geometry', action='store_true', help='also the geometry after the last epoch, as geometry.md')
    parser.add_argument('--metafile', type=Path, help='also put the cells of which all runs are done into it, such as configs/resnet/metafile.yml')
    args = parser.parse_args()
    try:
        table = load_table(args.table or table_of(args.work_dir), ROOT)
        rows = collect(table, args.work_dir)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    out = args.out or args.work_dir
    out.mkdir(parents=True, exist_ok=True)
    pages = {'table.md': markdown(table, rows, args.work_dir)}
    if args.geometry:
        pages['geometry.md'] = geometry_markdown(rows)
    for name, page in pages.items():
        (out / name).write_text(page, encoding='utf-8')
        print(page)
    write_csv(rows, out / 'table.csv', out / 'runs.csv')
    draw_scores(list(points(rows)), title=table.caption).savefig(out / 'table.png', dpi=130)
    if args.metafile:
        print(f'{len(add_results(rows, args.work_dir, args.metafile, ROOT))} cells written to {args.metafile}: now run python tools/zoo.py')
    print(f'written: {", ".join(str(out / name) for name in [*pages, "table.csv", "runs.csv", "table.png"])}')


if __name__ == '__main__':
    main()
