"""The questions of JUICE and the reasons for an answer (Emu Video, section 4 and appendix)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """A reason that a rater can tick.

    Attributes:
        key: how votes and exports call it.
        label: its text on the page.
        explanation: what to look for, shown with the training example.
        fault: which fault of `faults.FAULTS` its training example shows.
    """

    key: str
    label: str
    explanation: str
    fault: str


@dataclass(frozen=True)
class Question:
    """A question about a pair of videos. At least one of its reasons has to be ticked."""

    key: str
    text: str
    reasons: tuple[Reason, ...]


QUALITY = Question(
    "quality",
    "Which video do you prefer?",
    (
        Reason("sharpness", "Pixel sharpness", "Edges and textures are crisp, without blur or blocks.", "blurred"),
        Reason("smoothness", "Motion smoothness", "Movement is even, without jumps or stutter.", "stuttering"),
        Reason("recognisable", "Recognisable objects and scenes", "You can name what you see.", "scrambled"),
        Reason("consistency", "Frame consistency", "Objects and scene stay the same over time.", "flickering"),
        Reason("motion", "Amount of motion", "There is enough movement, and not too much.", "frozen"),
    ),
)
FAITHFULNESS = Question(
    "faithfulness",
    "Which video matches the text better?",
    (
        Reason("spatial", "Spatial text alignment", "Objects, colours and places are those of the text.", "recoloured"),
        Reason("temporal", "Temporal text alignment", "What happens is what the text says.", "reversed"),
    ),
)
QUESTIONS = {question.key: question for question in (QUALITY, FAITHFULNESS)}
