"""Export, verification and evaluation of a trained policy."""
