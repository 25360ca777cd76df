"""Bundles, logs and inputs that tests are fed."""
