"""Every named error is one that the command line turns into a sentence."""

from __future__ import annotations

import inspect

import pytest

from holdfast import errors
from holdfast.errors import HoldfastError

NAMED = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind is not HoldfastError
]


@pytest.mark.parametrize("kind", NAMED)
def test_every_error_is_a_holdfast_error_and_says_for_what(kind):
    assert issubclass(kind, HoldfastError)
    assert kind.__doc__
    assert str(kind("the sentence")) == "the sentence"


def test_none_hides_a_bug():
    """A `except ContractError` must not swallow what Python itself raises."""
    for kind in NAMED:
        assert not issubclass(kind, (ValueError, TypeError, OSError, RuntimeError))
