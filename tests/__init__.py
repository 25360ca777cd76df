"""The tests. `tests.helpers` is what they and the benchmarks share."""
