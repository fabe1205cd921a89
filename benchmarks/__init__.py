"""Speed and memory of the convolutions, each held against the reference backend before it is timed: ``python -m benchmarks.run``."""
