"""Sparsestmax of lines of narrow values and its gradient, for Triton kernels.

Weights that sum to one and are at least a radius away from all alike (Shao et al., 2019, "SSN",
arXiv 1903.03793): the nearest point of the simplex, pushed out of a circle about the centre of the
face that it lies on, until none would be negative.

Each step keeps the order of the values, so that a face is all that is above some level, and the
weights there are `1 / count + stretch * (value - mean)`. Lines are side by side in a tile of one
row, and stay in memory: each sum goes along them once more. Sums are in float64.
"""

from __future__ import annotations

import triton
import triton.language as tl

from metanorm.runtime.triton import arithmetic

# A face about whose centre weights are this near has no way out.
SQUARED_NEARNESS = tl.constexpr(16e-30)


@triton.jit
def below(values, stride, place, inside, largest):
    """A value of each line, less the largest one of the line."""
    return tl.load(values + place * stride, inside, 0).to(tl.float64) - largest


@triton.jit
def is_above(value, level):
    """Whether a value is on a face. A NaN is on every face, and makes all of it NaN."""
    return (value > level) | (value != value)


@triton.jit
def count_and_total(values, stride, size, inside, largest, level):
    """How many values of each line are above a level, and their sum."""
    count = tl.zeros_like(largest)
    total = tl.zeros_like(largest)
    for place in range(size):
        value = below(values, stride, place, inside, largest)
        on_face = is_above(value, level)
        count += on_face.to(tl.float64)
        total += tl.where(on_face, value, 0)
    return count, total


@triton.jit
def projected(values, stride, size, inside, largest, level, stretch):
    """The face that is left if what would be negative is left out, again and again (Michelot,
    1986): its level, count and mean, and the sum of squares about it."""
    before = tl.zeros_like(largest)
    count, total = count_and_total(values, stride, size, inside, largest, level)
    while tl.max((inside & (count != before)).to(tl.int32)) > 0:
        before = count
        level = tl.where(inside, (total - 1 / stretch) / count, level)
        count, total = count_and_total(values, stride, size, inside, largest, level)
    mean = arithmetic.over(total, count)
    squares = tl.zeros_like(largest)
    for place in range(size):
        value = below(values, stride, place, inside, largest)
        squares += tl.where(is_above(value, level), (value - mean) * (value - mean), 0)
    return level, count, mean, squares


@triton.jit
def room_of(count, first, radius):
    """The square of the radius on a face, of which the way to its centre has taken a part."""
    return radius * radius - (1 / count - 1 / first)


@triton.jit
def is_stretched(count, before, first, squares, stretch, radius):
    """Whether weights of a new face lie in the circle about its centre, and not all at it."""
    away = stretch * stretch * squares
    in_circle = (away < room_of(count, first, radius)) & (away > SQUARED_NEARNESS)
    return (count != before) & in_circle


@triton.jit
def nearest_face(values, stride, size, radius, inside):
    """The face that the weights of each line are on, and how they are stretched there; and the
    face in which they were stretched last, with a level of infinity if they were not."""
    largest = tl.where(inside, float("-inf"), 0).to(tl.float64)
    for place in range(size):
        value = tl.load(values + place * stride, inside, 0).to(tl.float64)
        largest = arithmetic.largest(largest, value)
    level = tl.zeros_like(largest) - 1
    stretch = tl.zeros_like(largest) + 1
    level, count, mean, squares = projected(values, stride, size, inside, largest, level, stretch)
    source_level = tl.zeros_like(largest) + float("inf")
    source_mean = mean
    source_squares = squares
    first = count
    before = tl.zeros_like(largest)
    moving = inside & is_stretched(count, before, first, squares, stretch, radius)
    while tl.max(moving.to(tl.int32)) > 0:
        before = tl.where(moving, count, before)
        source_level = tl.where(moving, level, source_level)
        source_mean = tl.where(moving, mean, source_mean)
        source_squares = tl.where(moving, squares, source_squares)
        room = room_of(count, first, radius)
        stretch = tl.where(moving, tl.sqrt(room / tl.where(moving, squares, 1)), stretch)
        level, count, mean, squares = projected(
            values, stride, size, inside, largest, level, stretch
        )
        moving = moving & is_stretched(count, before, first, squares, stretch, radius)
    return largest, level, count, mean, stretch, source_level, source_mean, source_squares


@triton.jit
def store_weights(
    weights, weight_stride, values, value_stride, size, radius, inside, REAL: tl.constexpr
):
    """Store the weights of each line. Pointers are to the first position of each."""
    largest, level, count, mean, stretch, _, _, _ = nearest_face(
        values, value_stride, size, radius, inside
    )
    for place in range(size):
        value = below(values, value_stride, place, inside, largest)
        weight = tl.where(is_above(value, level), 1 / count + stretch * (value - mean), 0)
        tl.store(weights + place * weight_stride, weight.to(REAL), inside)


@triton.jit
def store_gradients(
    gradients, gradient_stride, adjoints, adjoint_stride, values, value_stride, size, radius,
    inside, REAL: tl.constexpr,
):  # fmt: skip
    """Store the gradients of the values of each line, from the adjoints of their weights: each
    value moves the mean of its face, and by the spread of the face in which they were stretched
    the stretch."""
    largest, level, count, mean, stretch, source_level, source_mean, source_squares = nearest_face(
        values, value_stride, size, radius, inside
    )
    total = tl.zeros_like(largest)
    pull = tl.zeros_like(largest)
    for place in range(size):
        value = below(values, value_stride, place, inside, largest)
        adjoint = tl.load(adjoints + place * adjoint_stride, inside, 0).to(tl.float64)
        adjoint = tl.where(is_above(value, level), adjoint, 0)
        total += adjoint
        pull += adjoint * (value - mean)
    for place in range(size):
        value = below(values, value_stride, place, inside, largest)
        adjoint = tl.load(adjoints + place * adjoint_stride, inside, 0).to(tl.float64)
        gradient = tl.where(is_above(value, level), adjoint - total / count, 0)
        was_stretched = is_above(value, source_level)
        by_spread = arithmetic.over(pull * (value - source_mean), source_squares)
        gradient -= tl.where(was_stretched, by_spread, 0)
        gradient = tl.where(mean != mean, mean, stretch * gradient)
        tl.store(gradients + place * gradient_stride, gradient.to(REAL), inside)
