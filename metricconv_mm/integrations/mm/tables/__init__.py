"""Tables of results as data: which runs they need, running them, and putting them together. tools/run_table.py and tools/collect_table.py."""

from .definition import Cell, Table, known_tables, load_table
from .records import Outcome, outcome
from .running import Failure, Run, plan, run_all

__all__ = ['Cell', 'Failure', 'Outcome', 'Run', 'Table', 'known_tables', 'load_table', 'outcome', 'plan', 'run_all']
