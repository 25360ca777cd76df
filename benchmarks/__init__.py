"""The script behind each figure that a page states: `python -m benchmarks.NAME`."""
