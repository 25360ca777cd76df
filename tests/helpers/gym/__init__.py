"""Environments of other people's kind."""
