"""The functions that Triton kernels call: some that Triton lacks, and statistics by Chan's rule.

Moments are a weight, a mean, and a sum of squares about that mean; never a mean of squares less
the square of a mean. What weighs nothing has a mean of zero. Values are tiles of two dimensions:
`ROWS` and `COLUMNS` say along which of them a statistic is taken.
"""

from __future__ import annotations

import triton
import triton.language as tl

# ---- elementwise


@triton.jit
def over(total, weight):
    """The quotient; zero where nothing weighs anything."""
    return tl.where(weight != 0, total / tl.where(weight != 0, weight, 1), 0)


@triton.jit
def if_weighed(extreme, weight):
    """The extreme of the elements that count; zero where none does."""
    return tl.where(weight != 0, extreme, 0)


@triton.jit
def largest(a, b):
    """The larger one, or NaN where either is."""
    return tl.where(a != a, a, tl.where(a > b, a, b))


@triton.jit
def smallest(a, b):
    """The smaller one, or NaN where either is."""
    return tl.where(a != a, a, tl.where(a < b, a, b))


@triton.jit
def rounded(x, TYPE: tl.constexpr, REAL: tl.constexpr):
    """The nearest number of another type, by way of float32, as torch rounds."""
    if TYPE.primitive_bitwidth == 64:
        return x.to(REAL)
    else:
        return x.to(tl.float32).to(TYPE).to(REAL)


@triton.jit
def sign(x):
    """-1, 0 or 1."""
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


@triton.jit
def nearest(x):
    """The nearest whole number, of two the even one."""
    below = tl.floor(x)
    rest = x - below
    is_odd = below - 2 * tl.floor(below / 2) == 1
    return below + ((rest > 0.5) | ((rest == 0.5) & is_odd)).to(x.dtype)


@triton.jit
def tanh(x):
    """The hyperbolic tangent, from an exponential that cannot overflow."""
    small = tl.exp(-2 * tl.abs(x))
    size = (1 - small) / (1 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def softplus(x):
    """log(1 + exp(x))."""
    return tl.where(x < 0, 0, x) + tl.log(1 + tl.exp(-tl.abs(x)))


@triton.jit
def power(a, b):
    """a^b; a whole exponent takes a base of any sign."""
    size = tl.exp2(b * tl.log2(tl.abs(a)))
    is_whole = tl.floor(b) == b
    is_odd = tl.floor(b * 0.5) != b * 0.5
    signed = tl.where(is_whole, tl.where(is_odd, -size, size), float("nan"))
    return tl.where(b == 0, 1, tl.where(a < 0, signed, size))


# ---- statistics of a tile


@triton.jit
def added(value, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr = 0):
    """The sum along rows, columns or both, which keep a length of one. Or of so many LANES of a
    row that lie beside each other: each of them gets it."""
    if LANES:
        cells: tl.constexpr = (value.shape[1] // LANES, LANES)
        total = tl.sum(tl.reshape(value, cells), 1, keep_dims=True)
        value = tl.reshape(tl.broadcast_to(total, cells), value.shape)
    if COLUMNS:
        value = tl.sum(value, 1, keep_dims=True)
    if ROWS:
        value = tl.sum(value, 0, keep_dims=True)
    return value


@triton.jit
def largest_of(value, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The largest value along rows, columns or both, which keep a length of one."""
    if COLUMNS:
        value = tl.reduce(value, 1, largest, keep_dims=True)
    if ROWS:
        value = tl.reduce(value, 0, largest, keep_dims=True)
    return value


@triton.jit
def smallest_of(value, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The smallest one."""
    if COLUMNS:
        value = tl.reduce(value, 1, smallest, keep_dims=True)
    if ROWS:
        value = tl.reduce(value, 0, smallest, keep_dims=True)
    return value


@triton.jit
def moments(value, weight, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Weight, mean and squares of the values of a tile: two passes, and a correction."""
    counts = weight != 0
    total = added(weight, ROWS, COLUMNS)
    rough_mean = over(added(tl.where(counts, weight * value, 0), ROWS, COLUMNS), total)
    deviation = tl.where(counts, value - rough_mean, 0)
    correction = over(added(weight * deviation, ROWS, COLUMNS), total)
    deviation = tl.where(counts, deviation - correction, 0)
    return total, rough_mean + correction, added(weight * deviation * deviation, ROWS, COLUMNS)


@triton.jit
def moments_alike(
    value, counts, count, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr = 0
):
    """The same where all that counts weighs one, and there are `count` in each pool."""
    rough_mean = over(added(tl.where(counts, value, 0), ROWS, COLUMNS, LANES), count)
    deviation = tl.where(counts, value - rough_mean, 0)
    correction = over(added(deviation, ROWS, COLUMNS, LANES), count)
    deviation = tl.where(counts, deviation - correction, 0)
    return count, rough_mean + correction, added(deviation * deviation, ROWS, COLUMNS, LANES)


@triton.jit
def observed(weight, mean, squares, value, share):
    """Moments with one more value each, which weighs its share."""
    total = weight + share
    deviation = tl.where(share != 0, value - mean, 0)
    step = deviation * over(share, total)
    return total, mean + step, squares + weight * deviation * step


@triton.jit
def observed_alike(mean, squares, value, inside, turn):
    """Moments with one more value each, unless it is not `inside`. All values weigh one, and this
    is value number `turn`, counted from one. `turns` counts the values of each lane."""
    deviation = tl.where(inside, value - mean, 0)
    step = deviation * (1 / turn)
    return mean + step, squares + deviation * (deviation - step)


@triton.jit
def turns(count, LANES: tl.constexpr):
    """The number of values on each lane, if `count` values go to so many LANES in rotation."""
    return (count - tl.arange(0, LANES) + LANES - 1) // LANES


@triton.jit
def merged(weight, mean, squares, more_weight, more_mean, more_squares):
    """Moments of two sets of values together."""
    total = weight + more_weight
    deviation = tl.where(more_weight != 0, more_mean - mean, 0)
    step = deviation * over(more_weight, total)
    return total, mean + step, squares + more_squares + weight * deviation * step


@triton.jit
def joined(weight, mean, squares, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Moments of all sets of values of a tile together."""
    return joined_alike(weight, added(weight, ROWS, COLUMNS), mean, squares, ROWS, COLUMNS)


@triton.jit
def joined_alike(weight, total, mean, squares, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The same where it is known what all weigh together."""
    counts = weight != 0
    rough_mean = over(added(tl.where(counts, weight * mean, 0), ROWS, COLUMNS), total)
    deviation = tl.where(counts, mean - rough_mean, 0)
    correction = over(added(weight * deviation, ROWS, COLUMNS), total)
    deviation = tl.where(counts, deviation - correction, 0)
    parts = tl.where(counts, squares, 0) + weight * deviation * deviation
    return total, rough_mean + correction, added(parts, ROWS, COLUMNS)


# ---- statistics from the parts that tiles have written


@triton.jit
def sum_of_parts(
    totals, cell, inside, cells, parts, REAL: tl.constexpr, CELLS: tl.constexpr, PARTS: tl.constexpr
):
    """The sum of all parts of each cell."""
    total = tl.zeros((PARTS, CELLS), REAL)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)[:, None]
        mask = (part < parts) & inside
        total += tl.load(totals + part * cells + cell, mask, 0)
    return tl.sum(total, 0, keep_dims=True)


@triton.jit
def mean_of_parts(
    weights, totals, cell, inside, cells, parts,
    REAL: tl.constexpr, CELLS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """The mean of each cell."""
    total = sum_of_parts(totals, cell, inside, cells, parts, REAL, CELLS, PARTS)
    return over(total, sum_of_parts(weights, cell, inside, cells, parts, REAL, CELLS, PARTS))


@triton.jit
def largest_of_parts(
    weights, extremes, cell, inside, cells, parts,
    REAL: tl.constexpr, CELLS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """The largest value of each cell."""
    extreme = tl.full((PARTS, CELLS), float("-inf"), REAL)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)[:, None]
        mask = (part < parts) & inside
        extreme = largest(extreme, tl.load(extremes + part * cells + cell, mask, float("-inf")))
    weight = sum_of_parts(weights, cell, inside, cells, parts, REAL, CELLS, PARTS)
    return if_weighed(largest_of(extreme, True, False), weight)


@triton.jit
def smallest_of_parts(
    weights, extremes, cell, inside, cells, parts,
    REAL: tl.constexpr, CELLS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """The smallest value of each cell."""
    extreme = tl.full((PARTS, CELLS), float("inf"), REAL)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)[:, None]
        mask = (part < parts) & inside
        extreme = smallest(extreme, tl.load(extremes + part * cells + cell, mask, float("inf")))
    weight = sum_of_parts(weights, cell, inside, cells, parts, REAL, CELLS, PARTS)
    return if_weighed(smallest_of(extreme, True, False), weight)


@triton.jit
def moments_of_parts(
    weights, means, squares, cell, inside, cells, parts,
    REAL: tl.constexpr, CELLS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Mean and variance of each cell."""
    weight = tl.zeros((PARTS, CELLS), REAL)
    mean = tl.zeros((PARTS, CELLS), REAL)
    square = tl.zeros((PARTS, CELLS), REAL)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)[:, None]
        mask = (part < parts) & inside
        offset = part * cells + cell
        more = tl.load(weights + offset, mask, 0)
        more_mean = tl.load(means + offset, mask, 0)
        more_squares = tl.load(squares + offset, mask, 0)
        weight, mean, square = merged(weight, mean, square, more, more_mean, more_squares)
    weight, mean, square = joined(weight, mean, square, True, False)
    return mean, over(square, weight)
