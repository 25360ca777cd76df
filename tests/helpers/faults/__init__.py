"""Lies, faults and ordinary episodes that the fault campaign is made of."""
