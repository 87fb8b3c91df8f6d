"""Encoders whose head reads the first position alone: their last layer need not compute the others."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_FAMILIES = frozenset({"bert", "roberta", "xlm-roberta"})


class FirstTokenLayer(nn.Module):
    """The last layer of a BERT-like encoder, for the first position alone.

    Keys and values come from all positions, so that position's state is what it would be; queries, output projection and feed-forward
    network are computed once a sequence instead of once a token. Of a layer's 12 H^2 multiply-adds a token 2 H^2 are left, which saves
    5/6 of a layer: 14 % of six layers, 3 % of twenty-four.

    Args:
        layer: the layer to stand in for.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, hidden: Float[Tensor, "B T H"], mask: Tensor | None = None, *_: object, **__: object
    ) -> Float[Tensor, "B 1 H"]:
        """Return the first position's state after the layer. `mask`, of shape (B, 1, T, T) or (B, 1, 1, T), says what it sees."""
        attention = self.layer.attention.self
        shape = (len(hidden), -1, attention.num_attention_heads, attention.attention_head_size)
        first = hidden[:, :1]
        query, key, value = (
            project(states).view(shape).transpose(1, 2)
            for project, states in ((attention.query, first), (attention.key, hidden), (attention.value, hidden))
        )
        mask = None if mask is None else mask[:, :, :1]
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scaling)
        attended = self.layer.attention.output(context.transpose(1, 2).flatten(2), first)
        return self.layer.output(self.layer.intermediate(attended), attended)


def shorten_last_layer(model: Any) -> bool:
    """Let a classifier's last layer compute the first position alone, where its architecture is known to read no other; whether it is."""
    config = model.config
    if config.model_type not in _FAMILIES or config.is_decoder:
        return False
    layers = model.base_model.encoder.layer
    layers[-1] = FirstTokenLayer(layers[-1])
    return True
