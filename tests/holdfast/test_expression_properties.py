"""Expressions that nobody thought of: both evaluations agree, and cost what Python would say."""

from __future__ import annotations

import math
import re
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from holdfast.errors import ContractError
from holdfast.expressions import CostExpression
from tests.helpers.data.expression_texts import SPECS, Texts

EXAMPLES = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    derandomize=True,
)
HUGE = ("1e308", "1e-320", "1e200", "5e-324", "2", "0.5", "1e16")
EXTREME = st.sampled_from(
    (
        *(0.0, -0.0, 5e-324, -5e-324, 1e-310, 2.2250738585072014e-308, 1e308, -1e308),
        *(1.7976931348623157e308, 1e154, -1e-160, 1.0, -1.0, 0.5, 2.0, math.pi),
    )
)
FINITE = EXTREME | st.floats(allow_nan=False, allow_infinity=False)
ANY = FINITE | st.sampled_from([math.nan, math.inf, -math.inf])
COUNT = sum(spec.size for spec in SPECS.values())


def expression(data, **options):
    text = Texts(lambda count: data.draw(st.integers(0, count - 1)), **options).cost()
    try:
        return CostExpression(text, SPECS)
    except ContractError as error:
        refusal = str(error)
    # Constants that are no finite number, or nothing but constants.
    assert re.search("should be finite|should read a signal|should not be 0", refusal), (
        text,
        refusal,
    )
    assume(False)
    raise AssertionError


def robots(data, numbers, count=4):
    """Return values by signal of each robot."""
    rows = data.draw(
        st.lists(st.lists(numbers, min_size=COUNT, max_size=COUNT), min_size=count, max_size=count)
    )
    made = []
    for row in rows:
        rest = iter(row)
        made.append({name: [next(rest) for _ in range(s.size)] for name, s in SPECS.items()})
    return made


def bits(cost):
    return "nan" if math.isnan(cost) else struct.pack(">d", cost)


def agree(cost, values):
    """Hold the cost of numbers against the cost of arrays, in several shapes."""
    steps = [cost.step(each) for each in values]
    assert all(type(step) is float for step in steps)
    wanted = [bits(step) for step in steps]
    many = {name: np.array([each[name] for each in values]) for name in SPECS}
    for shape in ((-1,), (2, -1), (-1, 1, 2)):
        shaped = {name: array.reshape(*shape, array.shape[-1]) for name, array in many.items()}
        costs = cost(shaped)
        assert costs.dtype == np.float64
        assert costs.shape == shaped["speed"].shape[:-1]
        assert [bits(c) for c in costs.ravel()] == wanted
    fortran = {name: np.asfortranarray(array) for name, array in many.items()}
    assert [bits(c) for c in cost(fortran)] == wanted
    one = cost({name: array[0] for name, array in many.items()})
    assert one.shape == ()
    assert bits(float(one)) == wanted[0]


@EXAMPLES
@given(st.data())
def test_numbers_and_arrays_agree_bit_for_bit(data):
    agree(expression(data), robots(data, FINITE))


@EXAMPLES
@given(st.data())
def test_they_agree_with_constants_that_overflow_too(data):
    agree(expression(data, literals=HUGE), robots(data, FINITE))


@EXAMPLES
@given(st.data())
def test_they_agree_on_inputs_that_are_not_finite_too(data):
    agree(expression(data), robots(data, ANY))


@EXAMPLES
@given(st.data())
def test_many_robots_agree_whatever_vector_instructions_numpy_takes(data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    cost = expression(data)
    rng = np.random.default_rng(seed)
    many = {name: rng.normal(size=(37, spec.size)) for name, spec in SPECS.items()}
    costs = cost(many)
    for i in range(37):
        assert bits(costs[i]) == bits(cost.step({n: a[i].tolist() for n, a in many.items()}))


@EXAMPLES
@given(st.data())
def test_the_canonical_text_is_an_expression_of_the_same_cost(data):
    cost = expression(data)
    again = CostExpression(cost.canonical, SPECS)
    assert again.canonical == cost.canonical
    assert again.signals == cost.signals
    for values in robots(data, FINITE, 2):
        assert bits(again.step(values)) == bits(cost.step(values))


# What Python itself says: an interpreter of numbers that raise where they are not finite.


class Real:
    def __init__(self, value):
        self.value = float(value)
        if not math.isfinite(self.value):
            raise ArithmeticError

    def _with(self, other, operation):
        if isinstance(other, Vector):
            return NotImplemented
        return Real(operation(self.value, float(other)))

    def __float__(self):
        return self.value

    def __index__(self):
        return int(self.value)

    def __add__(self, other):
        return self._with(other, lambda a, b: a + b)

    def __radd__(self, other):
        return Real(float(other) + self.value)

    def __sub__(self, other):
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other):
        return Real(float(other) - self.value)

    def __mul__(self, other):
        return self._with(other, lambda a, b: a * b)

    def __rmul__(self, other):
        return Real(float(other) * self.value)

    def __truediv__(self, other):
        return self._with(other, lambda a, b: a / b)

    def __rtruediv__(self, other):
        return Real(float(other) / self.value)

    def __neg__(self):
        return Real(-self.value)

    def __pos__(self):
        return self

    def __abs__(self):
        return Real(abs(self.value))

    def __pow__(self, exponent):
        if float(exponent) == 0.5:
            return Real(math.sqrt(self.value))
        product = self
        for _ in range(int(float(exponent)) - 1):
            product = product * self
        return product

    def __rpow__(self, truth):
        return Real(truth) ** self

    def __lt__(self, other):
        return self.value < float(other)

    def __le__(self, other):
        return self.value <= float(other)

    def __gt__(self, other):
        return self.value > float(other)

    def __ge__(self, other):
        return self.value >= float(other)

    def __eq__(self, other):
        return self.value == float(other)

    def __ne__(self, other):
        return self.value != float(other)

    __hash__ = None


def real(value):
    return value if isinstance(value, (Real, Vector)) else Real(value)


class Vector(list):
    """Several Reals, or several truths."""

    def each(self, function, *others):
        others = [o if isinstance(o, Vector) else [o] * len(self) for o in others]
        return Vector(function(*values) for values in zip(self, *others, strict=True))

    def __getitem__(self, key):
        found = super().__getitem__(key)
        return Vector(found) if isinstance(key, slice) else found

    x = property(lambda self: self[0])
    y = property(lambda self: self[1])
    min = property(min)
    max = property(max)

    def __neg__(self):
        return self.each(lambda a: -a)

    def __abs__(self):
        return self.each(abs)


def _spread(name):
    def forward(self, other):
        return self.each(lambda a, b: getattr(a, name)(b), other)

    return forward


for _name in ("add", "sub", "mul", "truediv", "radd", "rsub", "rmul", "rtruediv"):
    setattr(Vector, f"__{_name}__", _spread(f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Vector, f"__{_name}__", _spread(f"__{_name}__"))


def elementwise(function):
    def spread(*args):
        vector = next((a for a in args if isinstance(a, Vector)), None)
        if vector is None:
            return Real(function(*map(float, args)))
        args = [a if isinstance(a, Vector) else [a] * len(vector) for a in args]
        return Vector(Real(function(*map(float, each))) for each in zip(*args, strict=True))

    return spread


def total(values):
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


FUNCTIONS = {
    "Real": Real,
    "abs": lambda a: abs(real(a)),
    "min": lambda *args: min(args[0]) if len(args) == 1 else min(map(real, args)),
    "max": lambda *args: max(args[0]) if len(args) == 1 else max(map(real, args)),
    "hypot": elementwise(lambda a, b: math.sqrt(a * a + b * b)),
    "clip": elementwise(lambda a, low, high: min(max(a, low), high)),
    "sqrt": elementwise(math.sqrt),
    "sin": elementwise(math.sin),
    "cos": elementwise(math.cos),
    "sum": total,
    "norm": lambda values: Real(math.sqrt(float(total(values.each(lambda a: a * a))))),
    "any": any,
    "all": all,
}


def said_by_python(text, values):
    """Return what Python makes of a text, NaN where it raises; and/or do not look at what they need
    not."""
    names = {n: Vector(map(Real, v)) if len(v) > 1 else Real(v[0]) for n, v in values.items()}
    wrapped = re.sub(r"(?<![\w.])(\d[\d.]*(?:e-?\d+)?)(?![\w.\]:])", r"Real(\1)", text)
    try:
        return float(eval(wrapped, FUNCTIONS | names)) + 0.0
    except (ArithmeticError, ValueError):
        return math.nan


PLAIN = st.sampled_from([0.0, 0.0, 1.0, -1.0, 2.0, 0.1, -0.25]) | st.floats(-100.0, 100.0)


@settings(EXAMPLES, max_examples=300)
@given(st.data())
def test_a_cost_is_what_python_says(data):
    cost = expression(data, joined_vectors=False)
    for values in robots(data, PLAIN, 3):
        assert bits(cost.step(values)) == bits(said_by_python(cost.text, values)), values


def test_the_interpreter_tells_what_is_undefined():
    values = {name: [0.0] * spec.size for name, spec in SPECS.items()}
    assert math.isnan(said_by_python("1 / speed > 2", values))
    assert said_by_python("(speed > 1) and (1 / speed > 2)", values) == 0.0
    assert said_by_python("sum(scan + 1) * 2", values) == 10.0
    with pytest.raises(NameError):
        said_by_python("spead > 1", values)
