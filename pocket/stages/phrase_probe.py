"""Which words belong together, as a third target of the image model: a linear probe must find a shape's phrase.

Denoising alone left the text features of "red" in "a red circle and a blue star" without the word "circle", so colours
and shapes were paired by chance. The probe must find all words of a phrase in the text feature of each of its words,
and in the image features of every cell of its shape. There, temporal layers find the word of its motion, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.text_encoder import SPECIAL, WIDTH, Vocabulary
from .geometry import Cells, mean_over


class PhraseProbe(nn.Module):
    """Linear maps to the words of a phrase, from text features and from image features of several levels."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        size = len(Vocabulary())
        self.of_text = nn.Linear(WIDTH, size)
        self.of_cells = nn.ModuleList(nn.Conv2d(each, size, 1) for each in channels)

    def error(self, context: Tensor, features: list[Tensor], tokens: Tensor, cells: list[Cells]) -> Tensor:
        """Return the cross-entropy of which words are in the phrase, the mean over words, cells and levels.

        Args:
            context: text features [n, 32, 128] of tokens [n, 32].
            features: image features [n, channels, h, w] of each level, with its cells.
        """
        number = phrase_numbers(tokens)
        levels = [cross_entropy(self.of_text(context.float()), words_of(number, number, tokens), number >= 0)]
        for probe, level, found in zip(self.of_cells, features, cells, strict=False):
            said = words_of(found.owner.flatten(1), number, tokens)
            belongs = found.belongs.flatten(1) & (number >= 0).any(1, keepdim=True)
            levels.append(cross_entropy(probe(level.float()).flatten(2).mT, said, belongs))
        return torch.stack(levels).mean()


def cross_entropy(logits: Tensor, said: Tensor, counted: Tensor) -> Tensor:
    """Return the mean error of logits [n, places, words] over the counted places [n, places]."""
    return mean_over(F.binary_cross_entropy_with_logits(logits, said, reduction="none").mean(2), counted)


def phrase_numbers(tokens: Tensor) -> Tensor:
    """Return the number of each token's phrase [n, 32], in the order of the shapes, and -1 outside of the caption.

    A phrase begins with "and" or, for the background, with "on a".
    """
    ids = Vocabulary().ids
    follower = tokens.roll(-1, 1)
    begins = (tokens == ids["and"]) | ((tokens == ids["on"]) & (follower == ids["a"]))
    return torch.where(tokens < len(SPECIAL), -1, begins.cumsum(1))


def words_of(wanted: Tensor, number: Tensor, tokens: Tensor) -> Tensor:
    """Return which words of the vocabulary are in the `wanted` phrases [n, places], as numbers [n, places, words]."""
    inside = (wanted[:, :, None] == number[:, None]) & (number >= 0)[:, None]
    words = F.one_hot(tokens, len(Vocabulary())).float()
    return (inside.float() @ words).clamp(max=1)
