"""What norms for gradients and for steps share: which parameters fit, and a state for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from metanorm.runtime.optimizer_state import OptimizerState, State
from metanorm.runtime.parameter_filter import ParameterFilter
from metanorm.runtime.weights import waits


class AttachableNorm(nn.Module):
    """The base class of norms that an optimizer calls for each of its parameters.

    Called by itself, such a norm keeps its buffers for one tensor, like any module: they get their
    lengths from the first call. An optimizer has a state of its own for each parameter.
    """

    fewest_dims: ClassVar[int]  # of the parameters that it is for
    most_dims: ClassVar[int | None] = None
    state_names: ClassVar[tuple[str, ...]] = ()  # the buffers that it keeps for each parameter

    def _fits(self, parameter: Tensor) -> bool:
        """Whether a parameter has the axes of the norm."""
        dims, max_dims = parameter.dim(), self.most_dims
        return dims >= self.fewest_dims and (max_dims is None or dims <= max_dims)

    def _can_take(self, tensor: Tensor) -> bool:
        dense = tensor.layout == torch.strided and tensor.is_floating_point()
        return dense and self._fits(tensor)

    def _filter(
        self, where: Callable[[Tensor], bool] | None, skip: str | Sequence[str]
    ) -> ParameterFilter:
        names = (skip,) if isinstance(skip, str) else tuple(skip)
        return ParameterFilter(self._fits, where, names)

    def _optimizer_state(self, name: str | None) -> OptimizerState:
        return OptimizerState(name or type(self).__name__, self.state_names)

    def _result_for(
        self,
        optimizer: Optimizer,
        parameter: Tensor,
        inputs: Sequence[Tensor],
        optimizer_state: OptimizerState,
    ) -> Tensor:
        """The result for a parameter, whose state in the optimizer moves on."""
        if not self.state_names:
            result: Tensor = self(*inputs)
            return result
        kept_before = optimizer_state.find(optimizer, parameter)
        result, state = self._with_state(kept_before, inputs)
        optimizer_state.keep(optimizer, parameter, state)
        return result

    def _with_state(self, state: State | None, inputs: Sequence[Tensor]) -> tuple[Tensor, State]:
        """The result of a call that reads and writes this state instead of the module's own.

        Where there is none, it begins with the call.
        """
        return self._exchanging(state, lambda: self(*inputs))

    def _first_state(self, inputs: Sequence[Tensor]) -> State:
        """The state that a first call with these inputs begins with."""
        begin: Callable[..., None] = getattr(self, "begin_state", lambda *_: None)
        return self._exchanging(None, lambda: begin(*inputs))[1]

    def _exchanging(self, state: State | None, compute: Callable[[], Any]) -> tuple[Any, State]:
        if not self.state_names:
            return compute(), {}
        module_state = {name: self._buffers[name] for name in self.state_names}
        lent = state or {name: torch.empty(0) for name in self.state_names}
        self._buffers.update(lent)
        try:
            result = compute()
            kept = {name: getattr(self, name) for name in self.state_names}
        finally:
            self._buffers.update(module_state)
        return result, kept

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Buffers that no call has given a shape yet take that of the checkpoint.
        for name in self.state_names:
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and waits(self._buffers[name]):
                self._buffers[name] = torch.empty_like(saved)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
