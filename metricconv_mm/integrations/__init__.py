"""Adapters to model zoos; no mathematics here."""
