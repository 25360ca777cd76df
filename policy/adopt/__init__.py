"""Policies that were trained elsewhere: their networks become bundles."""
