"""A network for text: a pre-norm transformer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

Norm = Callable[[int], nn.Module]  # a norm of rows of this length


class Block(nn.Module):
    """Attention and two linear layers, each after a norm and with a shortcut."""

    def __init__(self, norm: Norm, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.linear_norm = norm(width), norm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.wider, self.narrower = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """New values of the tokens, `x[batch, tokens, width]`."""
        x = x + self.joined(self._attention(self.attention_norm(x)))
        y: Tensor = x + self.narrower(functional.gelu(self.wider(self.linear_norm(x))))
        return y

    def _attention(self, x: Tensor) -> Tensor:
        heads = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return mixed.transpose(1, 2).flatten(2)


class Transformer(nn.Sequential):
    """Maps tokens to logits of the next token."""

    def __init__(
        self, norm: Norm, width: int = 256, layers: int = 4, heads: int = 4, tokens: int = 256
    ) -> None:
        blocks = [Block(norm, width, heads) for _ in range(layers)]
        head = nn.Linear(width, tokens, bias=False)
        super().__init__(nn.Embedding(tokens, width), *blocks, norm(width), head)
