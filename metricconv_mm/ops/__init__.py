"""The operators, declared once, and the backends that run them."""

from . import schema
from .backends import BACKENDS, Backend, use_backend

__all__ = ['BACKENDS', 'Backend', 'schema', 'use_backend']
