"""The pocket's text encoder: a small transformer over whole words. Its vocabulary is stored beside the weights."""

import json
import re
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..world.vocabulary import ALIASES, WORDS, near_misses

LENGTH = 32
WIDTH = 128
PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")


class Vocabulary:
    """Words to token ids. Case and punctuation are ignored; known synonyms count as the word that they mean."""

    def __init__(self, words=WORDS, aliases=ALIASES):
        self.words = (*SPECIAL, *words)
        self.aliases = dict(aliases)
        self.ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def split(self, text: str) -> list[str]:
        return [self.aliases.get(word, word) for word in re.findall(r"[a-z]+", text.lower())]

    def unknown(self, text: str) -> list[str]:
        """Return the words of `text` that are not in the vocabulary."""
        return [word for word in self.split(text) if word not in self.ids]

    def complaint(self, text: str) -> str:
        """Return a sentence about the unknown words of `text` with similar known words, or "" if all are known."""
        known = sorted({*self.words[len(SPECIAL) :], *self.aliases})
        words = [f'"{word}"{self._hint(word, known)}' for word in dict.fromkeys(self.unknown(text))]
        return f"The pocket model does not know {', '.join(words)}." if words else ""

    @staticmethod
    def _hint(word: str, known: list[str]) -> str:
        near = near_misses(word, known)
        return f" (did you mean {' or '.join(near)}?)" if near else ""

    def encode(self, text: str) -> list[int]:
        """Return token ids of the words, without start, end or padding."""
        return [self.ids.get(word, UNKNOWN) for word in self.split(text)]

    def to_tensor(self) -> Tensor:
        """Return the vocabulary as bytes, to be stored beside the weights."""
        text = json.dumps({"words": self.words[len(SPECIAL) :], "aliases": self.aliases})
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> "Vocabulary":
        return cls(**json.loads(bytes(tensor.tolist()).decode()))


def pad_tokens(tokens: list[int]) -> list[int]:
    """Return 32 ids: start, at most 30 words, end, padding."""
    body = [START, *tokens[: LENGTH - 2], END]
    return body + [PAD] * (LENGTH - len(body))


def tokens_of(captions: Iterable[str]) -> Tensor:
    """Return the token ids of captions, [n, 32]."""
    vocabulary = Vocabulary()
    return torch.tensor([pad_tokens(vocabulary.encode(caption)) for caption in captions])


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, operations: Any, **where):
        super().__init__()
        self.heads = heads
        self.norm1 = operations.LayerNorm(width, **where)
        self.qkv = operations.Linear(width, 3 * width, **where)
        self.out = operations.Linear(width, width, **where)
        self.norm2 = operations.LayerNorm(width, **where)
        self.up = operations.Linear(width, 4 * width, **where)
        self.down = operations.Linear(4 * width, width, **where)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TextEncoder(nn.Module):
    """Encode token ids [n, 32] to features [n, 32, 128] and a pooled vector [n, 256].

    One half of the pooled vector is the normalised sum of the features, the other one that of the word embeddings. In
    the first half a word like "star" is easily lost among its neighbours; in the second all words have the same weight.
    """

    def __init__(self, vocabulary_size: int, width: int = WIDTH, layers: int = 2, operations: Any = nn, **where):
        super().__init__()
        self.tokens = operations.Embedding(vocabulary_size, width, **where)
        self.positions = operations.Embedding(LENGTH, width, **where)
        self.layers = nn.ModuleList(_Layer(width, width // 32, operations, **where) for _ in range(layers))
        self.norm = operations.LayerNorm(width, **where)
        self.pooled_norm = operations.LayerNorm(width, **where)
        self.bag_norm = operations.LayerNorm(width, **where)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(LENGTH, device=ids.device)
        words = self.tokens(ids).float()
        x = words + 0.1 * self.positions(places).float()
        is_word = ids != PAD
        for layer in self.layers:
            x = layer(x, is_word[:, None, None, :])
        pooled, bag = ((z * is_word[..., None]).sum(1) for z in (x, words))
        return self.norm(x), torch.cat([self.pooled_norm(pooled), self.bag_norm(bag)], 1)
