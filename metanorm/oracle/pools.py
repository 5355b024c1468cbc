"""Statistics, computed as products with dense matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metanorm.ir.aggregation import Dense, Neighbours
from metanorm.ir.nodes import Count, Pool, Ref, Type
from metanorm.oracle.dense import F64, pooling_matrix
from metanorm.oracle.functions import root, unbiased
from metanorm.oracle.values import Values


class Pools:
    """Pools over the values of a run."""

    def __init__(self, values: Values) -> None:
        self.v = values
        self.space = values.space

    def coefficients(
        self, op: Pool | Count, joined: Sequence[str], kept: Sequence[str]
    ) -> tuple[Tensor, list[int], list[int]]:
        """The weight of each position in each pool, as a tensor [kept..., pools, positions].

        It is the Kronecker product of the axis matrices times the weights. Also returns the number
        of pools and of padding columns of each pooled axis.
        """
        product = inside = torch.ones(1, 1, dtype=F64)
        rows, extra = [], []
        pooled = [axis for axis in joined if axis not in kept]
        groupings = dict(op.over)
        for axis in pooled:
            grouping = groupings.get(axis) or groupings[self.space.base(axis)]
            dense, padding = pooling_matrix(grouping, self.v.size(axis), self.v.env.grouping_data)
            product = torch.kron(product, dense)
            # Zeros of a given matrix are weights with gradients; other zeros are outside of a pool.
            is_given_matrix = isinstance(grouping, Dense)
            inside = torch.kron(inside, torch.ones_like(dense) if is_given_matrix else dense)
            rows.append(len(dense))
            extra.append(padding)
        counts, weight = inside != 0, torch.ones(1, dtype=F64)
        for ref, is_condition in ((op.where, True), (op.weight, False)):
            if ref is not None:
                tensor = self.v.broadcast(ref, (*kept, *pooled)).to(F64)
                tensor = self._padded(tensor, len(kept), extra).flatten(len(kept))
                if is_condition:
                    counts = counts & (tensor != 0).unsqueeze(-2)
                else:
                    weight = tensor
        # Positions outside of a pool, or left out, do not affect the gradient of their weight.
        coefficients = torch.where(counts, product * weight.unsqueeze(-2), 0.0)
        return coefficients, rows, extra

    def _padded(self, value: Tensor, kept: int, extra: Sequence[int]) -> Tensor:
        for position, padding in enumerate(extra):
            if padding:
                shape = list(value.shape)
                shape[kept + position] = padding
                value = torch.cat([value, value.new_zeros(shape)], dim=kept + position)
        return value

    def joined(self, op: Pool | Count, value_axes: Sequence[str]) -> tuple[list[str], list[str]]:
        """All axes of the pooled values, with pooled axes in place of cells, and the kept axes."""
        axes = {axis for axis, _ in op.over} | set(value_axes)
        for ref in (op.where, op.weight):
            axes |= set(self.v.types[ref].axes) if ref is not None else set()
        pooled_axes = {axis for axis, _ in op.over}
        full_axes = {
            a
            if a in pooled_axes
            else self.space.base(a)
            if self.space.base(a) in pooled_axes
            else a
            for a in axes
        }
        joined = self.space.join(*((a,) for a in full_axes))
        return list(joined), [a for a in joined if a not in pooled_axes]

    def _shaped(
        self, flat: Tensor, kept: Sequence[str], pooled: Sequence[str], rows: list[int], type_: Type
    ) -> Tensor:
        """A tensor [kept..., pools] with one dimension for each axis of the result."""
        tensor = flat.reshape([*(self.v.size(a) for a in kept), *rows])
        names = [*kept, *pooled]
        result_axes = [self.space.base(a) if a not in kept else a for a in type_.axes]
        order = [names.index(a) for a in result_axes]
        dropped = [i for i in range(len(names)) if i not in order]
        return tensor.permute([*order, *dropped]).reshape([tensor.shape[i] for i in order])

    def count(self, op: Count, type_: Type) -> Tensor:
        """The total weight of each pool."""
        joined, kept = self.joined(op, ())
        weights, rows, _ = self.coefficients(op, joined, kept)
        pooled = [a for a in joined if a not in kept]
        total = weights.sum(-1).expand([*(self.v.size(a) for a in kept), math.prod(rows)])
        return self._shaped(total, kept, pooled, rows, type_)

    def pool(self, op: Pool, type_: Type) -> Tensor:
        """A statistic of each pool."""
        joined, kept = self.joined(op, self.v.types[op.value].axes)
        weights, rows, extra = self.coefficients(op, joined, kept)
        pooled = [a for a in joined if a not in kept]
        value = self._padded(self.v.broadcast(op.value, (*kept, *pooled)).to(F64), len(kept), extra)
        x = value.flatten(len(kept)).unsqueeze(-2)
        flat = self._statistic(op, x, weights, kept, pooled, rows, type_)
        flat = flat.expand([*(self.v.size(a) for a in kept), math.prod(rows)])
        result = tuple(a for a in type_.axes)
        pooled_type = Type(
            "real", self.space.pooled_axes(self.space.join(*((a,) for a in joined)), op.over)
        )
        shaped = self._shaped(flat, kept, pooled, rows, pooled_type)
        if pooled_type.axes == result:
            return shaped
        self.v.values["%pool"], self.v.types["%pool"] = shaped, pooled_type
        return self.v.broadcast("%pool", result)

    def _statistic(
        self,
        op: Pool,
        x: Tensor,
        weights: Tensor,
        kept: Sequence[str],
        pooled: Sequence[str],
        rows: list[int],
        type_: Type,
    ) -> Tensor:
        total = weights.sum(-1)
        empty = total == 0

        weighs = weights != 0
        # A value of weight zero affects nothing, even as NaN, but the gradient of its weight.
        live, still = torch.where(weighs, x, 0.0), torch.where(x.isfinite(), x, 0.0).detach()

        def add_up(terms: Callable[[Tensor], Tensor]) -> Tensor:
            counted = torch.where(weighs, terms(live), terms(still).detach())
            return (weights * counted).sum(-1)

        def average(terms: Callable[[Tensor], Tensor]) -> Tensor:
            return torch.where(empty, 0.0, add_up(terms) / torch.where(empty, 1.0, total))

        def squares(centre: Tensor) -> Callable[[Tensor], Tensor]:
            """Squared differences from one centre for each pool."""
            centres = torch.where(weighs, centre.unsqueeze(-1), centre.unsqueeze(-1).detach())
            return lambda terms: (terms - centres) ** 2

        match op.statistic:
            case "sum":
                return add_up(lambda terms: terms)
            case "mean":
                return average(lambda terms: terms)
            case "l1":
                return add_up(torch.abs)
            case "l2":
                return root(add_up(torch.square))
            case "var":
                biased = average(squares(self._centre(average(lambda terms: terms))))
                return unbiased(biased, total) if op.ddof else biased
            case "second":
                assert op.about is not None
                return average(squares(self._about(op.about, kept, pooled, rows, op)))
            case "max" | "min":
                sign = 1.0 if op.statistic == "max" else -1.0
                often = self._occurrences(op, pooled)
                most = int(often.max()) if often.numel() else 1
                copies = [often > number for number in range(max(1, most))]
                best = torch.cat(
                    [torch.where(weighs & c, sign * x, -torch.inf) for c in copies], -1
                )
                if best.shape[-1] == 0:
                    return torch.zeros_like(total)
                return torch.where(empty, 0.0, sign * best.amax(-1))
            case "quantile":
                assert op.share is not None
                return self._quantile(x, weighs, self.v.env.number(op.share))
        raise NotImplementedError(op.statistic)

    def _occurrences(self, op: Pool, pooled: Sequence[str]) -> Tensor:
        """How often each position is in each pool: as many times as edges lead there, or once."""
        often, groupings = torch.ones(1, 1, dtype=F64), dict(op.over)
        for axis in pooled:
            grouping = groupings.get(axis) or groupings[self.space.base(axis)]
            dense, _ = pooling_matrix(grouping, self.v.size(axis), self.v.env.grouping_data)
            counts = dense if isinstance(grouping, Neighbours) else torch.ones_like(dense)
            often = torch.kron(often, counts)
        return often

    def _quantile(self, x: Tensor, weighs: Tensor, share: float) -> Tensor:
        """A quantile: between the two sorted values nearest to the position of the share."""
        has_nan = (weighs & x.isnan()).any(-1)
        values = torch.where(weighs & ~x.isnan(), x, torch.inf)
        count = weighs.expand_as(values).sum(-1, keepdim=True)
        if x.shape[-1] == 0:
            return torch.zeros_like(count, dtype=F64).squeeze(-1)
        ordered = torch.sort(values, dim=-1, stable=True).values
        position = share * (count - 1).clamp(min=0).to(F64)
        below, above = (ordered.gather(-1, p.long()) for p in (position.floor(), position.ceil()))
        fraction = position - position.floor()
        between = torch.where(fraction == 0, below, (1 - fraction) * below + fraction * above)
        quantile = torch.where(count == 0, 0.0, between).squeeze(-1)
        return torch.where(has_nan, torch.nan, quantile)

    def _centre(self, mean: Tensor) -> Tensor:
        """The centre of a variance, rounded like other values.

        A rounded centre is detached: its derivative would be a sum of deviations, which is zero but
        for rounding.
        """
        rounded = self.v.env.rounded(mean)
        return mean if rounded is mean else rounded.detach()

    def _about(
        self, ref: Ref, kept: Sequence[str], pooled: Sequence[str], rows: list[int], op: Pool
    ) -> Tensor:
        """The centre of each pool: [kept..., pools]."""
        groupings = dict(op.over)
        axes = [*kept]
        for axis in pooled:
            cells = self.space.pooled_axes((axis,), ((axis, groupings[axis]),))
            axes += cells
        value = self.v.aligned(ref, axes)
        full_shape: list[int] = [*value.shape[: len(kept)]]
        remaining = list(value.shape[len(kept) :])
        for axis in pooled:
            has_axis = bool(self.space.pooled_axes((axis,), ((axis, groupings[axis]),)))
            full_shape.append(remaining.pop(0) if has_axis else 1)
        value = value.reshape(full_shape)
        return value.expand([*value.shape[: len(kept)], *rows]).flatten(len(kept))
