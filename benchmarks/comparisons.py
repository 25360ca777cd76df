"""How often `holdfast show --compare` finds a difference between runs whose means are equal.

    python -m benchmarks.comparisons

Episode costs are drawn from skewed (gamma) distributions of mean 10, alike or of unequal spread. A
test at 5 % should find a difference in 5 % of the pairs.
"""

from __future__ import annotations

import numpy as np
import tyro

from holdfast.robot.view import compare

SIZES = ((20, 20), (10, 40), (80, 80))
SHAPES = {"alike": (2.0, 2.0), "unequal spread": (2.0, 8.0)}
"""Shape parameters of runs A and B; the standard deviation is 10 over the shape's root."""


def main(pairs: int = 1000, seed: int = 0) -> None:
    """Print the share of pairs in which a difference is found, with its standard error.

    Args:
        pairs: pairs of runs for each row.
        seed: of the draws.
    """
    compare.PERMUTATIONS = 1000
    rng = np.random.default_rng(seed)
    for name, (shape_a, shape_b) in SHAPES.items():
        for count_a, count_b in SIZES:
            found = 0
            for _ in range(pairs):
                a = rng.gamma(shape_a, 10.0 / shape_a, count_a)
                b = rng.gamma(shape_b, 10.0 / shape_b, count_b)
                least = min(compare.permutation_p(a, b), compare.permutation_p(b, a))
                found += 2.0 * least < compare.ALPHA
            share = found / pairs
            error = np.sqrt(share * (1.0 - share) / pairs)
            print(f"{name}, {count_a} and {count_b} episodes: {share:.1%} ± {error:.1%}")


if __name__ == "__main__":
    tyro.cli(main)
