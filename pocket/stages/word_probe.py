"""Words of the caption as a second target of the image model: a linear probe must find them in the features.

Temporal layers can only use a word that the frozen model passes on, and a word like "spinning" hardly changes a
picture. The probe is discarded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.text_encoder import Vocabulary


class WordProbe(nn.Module):
    """A linear map from the means of features [n, channels, h, w] over the frame to the words of the caption."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.map = nn.Linear(sum(channels), len(Vocabulary()))

    def error(self, features: list[Tensor], tokens: Tensor) -> Tensor:
        """Return the cross-entropy of which words are in `tokens` [n, 32], the mean over words and pictures."""
        means = torch.cat([each.float().mean((2, 3)) for each in features], 1)
        said = torch.zeros(len(tokens), len(Vocabulary()), device=tokens.device).scatter_(1, tokens, 1.0)
        return F.binary_cross_entropy_with_logits(self.map(means), said)
