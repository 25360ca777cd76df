"""The demo: the loop from training to a promoted child on one twin, and the page about it."""
