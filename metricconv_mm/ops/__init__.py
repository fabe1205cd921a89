"""The operators, declared once, and the backends that run them."""

from . import encoding_schema, flops, geodesic_schema, schema
from .backends import BACKENDS, Backend, use_backend

__all__ = ['BACKENDS', 'Backend', 'encoding_schema', 'flops', 'geodesic_schema', 'schema', 'use_backend']
