"""Tables of results as data: which runs they need, running them, and putting them together. tools/run_table.py and tools/collect_table.py."""

from .collecting import Row, collect, geometry_markdown, markdown, table_of, write_csv
from .definition import Cell, Score, Table, known_tables, load_table
from .records import Outcome, outcome
from .running import Failure, Run, plan, run_all
from .zoo import add_results, read_models, with_table, zoo_table

__all__ = [
    'Cell',
    'Failure',
    'Outcome',
    'Row',
    'Run',
    'Score',
    'Table',
    'add_results',
    'collect',
    'geometry_markdown',
    'known_tables',
    'load_table',
    'markdown',
    'outcome',
    'plan',
    'read_models',
    'run_all',
    'table_of',
    'with_table',
    'write_csv',
    'zoo_table',
]
