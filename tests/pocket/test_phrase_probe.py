"""The probe that must find which words belong to the same shape."""

import torch
from emu_video.pocket.model.text_encoder import WIDTH, Vocabulary, tokens_of
from emu_video.pocket.stages.geometry import Cells
from emu_video.pocket.stages.phrase_probe import PhraseProbe, phrase_numbers, words_of

CAPTIONS = ("a red circle on the left moving up and a blue star on a white background", "a green cross", "")
PHRASES = (
    ({"a", "red", "circle", "on", "the", "left", "moving", "up"}, {"and", "a", "blue", "star"},
     {"on", "a", "white", "background"}),
    ({"a", "green", "cross"}, set(), set()),
    (set(), set(), set()),
)  # fmt: skip


def test_phrases_end_at_and_and_before_the_background():
    tokens, words = tokens_of(CAPTIONS), Vocabulary().words
    number = phrase_numbers(tokens)
    said = words_of(torch.arange(3).expand(3, -1), number, tokens)
    found = [tuple({words[i] for i in phrase.nonzero()[:, 0]} for phrase in caption) for caption in said]
    assert found == list(PHRASES)
    assert ((number >= 0).sum(1) == torch.tensor([16, 3, 0])).all()


def test_the_probe_wants_the_phrase_of_each_word_and_of_each_cell():
    """Features that tell the right phrase have no error; with the phrases swapped, or said of a cell outside, they
    do."""
    tokens, size = tokens_of(CAPTIONS), len(Vocabulary())
    number = phrase_numbers(tokens)
    owner = torch.tensor([[[0, 1]], [[0, 0]], [[0, 0]]])
    belongs = torch.tensor([[[True, True]], [[True, False]], [[True, True]]])
    cells = Cells(torch.empty(0), belongs, owner)
    probe = PhraseProbe((size,))
    with torch.no_grad():
        probe.of_text.weight.copy_(torch.eye(size, WIDTH))
        probe.of_cells[0].weight.copy_(torch.eye(size)[..., None, None])
        for each in (probe.of_text, probe.of_cells[0]):
            each.bias.zero_()

    def sure(said: torch.Tensor) -> torch.Tensor:
        return 40 * said - 20

    context = torch.zeros(3, 32, WIDTH)
    context[..., :size] = sure(words_of(number, number, tokens))
    features = sure(words_of(owner.flatten(1), number, tokens)).mT.unflatten(2, (1, 2))
    assert probe.error(context, [features], tokens, [cells]) < 1e-6
    elsewhere = features.clone()
    elsewhere[1, :, 0, 1] *= -1  # no cell of the shape
    elsewhere[2] *= -1  # no caption
    assert probe.error(context, [elsewhere], tokens, [cells]) < 1e-6
    assert probe.error(context, [features.flip(3)], tokens, [cells]) > 0.1
    assert probe.error(context.flip(0), [features], tokens, [cells]) > 0.1
