"""The automatic judge on true videos with faults put in: the true one wins, for the right reason."""

from __future__ import annotations

from collections import Counter
from functools import cache

import cv2
import numpy as np
import pytest
from emu_video.evaluation.juice.faults import FAULTS
from emu_video.evaluation.juice.questions import QUESTIONS
from emu_video.evaluation.juice.session import Session
from emu_video.evaluation.juice.statistics import agreement_of, outcomes, raters
from emu_video.evaluation.juice.store import TIE, Answer, Vote
from emu_video.evaluation.videos import Video, write_lossless
from emu_video.pocket.evaluate import judge as command
from emu_video.pocket.evaluate.caption import Wanted, read_caption
from emu_video.pocket.evaluate.judge import READER, judge, measured, verdict
from emu_video.pocket.evaluate.reasons import MEASURES
from emu_video.pocket.world import Scenes, render_clips, sample_clips
from emu_video.pocket.world.vocabulary import DIRECTIONS

pytestmark = pytest.mark.slow
COUNT = 8
SCENES = Scenes(motions=(*DIRECTIONS, "getting bigger", "bouncing"), pairs=0, dimming=0.1)


def vanishing(frames: np.ndarray) -> np.ndarray:
    shown = frames.copy()
    shown[len(frames) // 2 :] = frames[:1, 2:3, 2:3]
    return shown


def jumping(frames: np.ndarray) -> np.ndarray:
    """Move every other frame by 4 pixels."""
    return np.stack([np.roll(frame, 4 * (i % 2), (0, 1)) for i, frame in enumerate(frames)])


def softened(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in frames])


SPOIL = FAULTS | {
    "vanishing": vanishing,
    "jumping": jumping,
    "softened": softened,
    "shuffled": lambda frames: frames[[0, 5, 2, 7, 1, 4, 3, 6]],
}


@cache
def truth() -> list[tuple[np.ndarray, Wanted, dict[str, float]]]:
    clips = sample_clips(7, COUNT, scenes=SCENES)
    videos = render_clips(clips)[0].movedim(2, -1).numpy()
    asked = [read_caption(clip.caption) for clip in clips]
    return [(video, wanted, measured(video, wanted)) for video, wanted in zip(videos, asked, strict=True)]


def test_true_videos_have_no_fault():
    for _, _, values in truth():
        assert values["spatial"] == values["temporal"] == 1 and values["motion"] == 0
        assert values["recognisable"] > 0.97 and values["sharpness"] > -9
        assert values["smoothness"] > -2.5 and values["consistency"] > -1


@pytest.mark.parametrize(
    ("fault", "question", "reason", "share"),
    [
        ("blurred", "quality", "sharpness", 1),
        ("softened", "quality", "sharpness", 1),
        ("stuttering", "quality", "smoothness", 0.8),
        ("jumping", "quality", "smoothness", 0.9),
        ("shuffled", "quality", "smoothness", 0.9),
        ("scrambled", "quality", "recognisable", 1),
        ("vanishing", "quality", "consistency", 1),
        ("flickering", "quality", "consistency", 1),
        ("frozen", "quality", "motion", 1),
        ("recoloured", "faithfulness", "spatial", 0.6),  # white and black stay
        ("reversed", "faithfulness", "temporal", 0.75),  # a bounce looks the same backward
        ("frozen", "faithfulness", "temporal", 1),
        ("vanishing", "faithfulness", "spatial", 0.9),
    ],
)
def test_the_true_video_wins_for_the_right_reason(fault, question, reason, share):
    answers = []
    for video, wanted, values in truth():
        answers.append(verdict(values, measured(SPOIL[fault](video), wanted))[question])
    assert all(answer.arm != "b" for answer in answers)
    assert sum(reason in answer.reasons for answer in answers) >= share * len(answers), Counter(answers)


@pytest.mark.parametrize(
    ("fault", "question"), [("recoloured", "quality"), ("reversed", "quality"), ("softened", "faithfulness")]
)
def test_a_fault_does_not_decide_the_other_question(fault, question):
    answers = [verdict(values, measured(SPOIL[fault](video), wanted)) for video, wanted, values in truth()]
    assert sum(answer[question] == Answer(TIE, ()) for answer in answers) >= 0.9 * len(answers)


def test_swapped_videos_swap_the_answer():
    swap = {"a": "b", "b": "a", TIE: TIE}
    for number, (video, wanted, values) in enumerate(truth()):
        other = measured(list(SPOIL.values())[number % len(SPOIL)](video), wanted)
        one, turned = verdict(values, other), verdict(other, values)
        assert {key: (swap[a.arm], a.reasons) for key, a in one.items()} == {
            key: (a.arm, a.reasons) for key, a in turned.items()
        }
        assert {answer.arm for answer in verdict(values, values).values()} == {TIE}


def test_an_empty_video_loses_and_is_no_error():
    video, wanted, values = truth()[0]
    nothing = measured(np.full_like(video, 128), wanted)
    assert np.isnan(nothing["sharpness"]) and nothing["recognisable"] == 0
    answers = verdict(values, nothing)
    assert answers["quality"].arm == answers["faithfulness"].arm == "a"


def test_every_reason_has_a_measure():
    asked = {key: {reason.key for reason in question.reasons} for key, question in QUESTIONS.items()}
    assert {key: set(reasons) for key, reasons in MEASURES.items()} == asked


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("a red circle", Wanted("red", "circle")),
        (
            "A big violet box spinning fast at the top left on a gray background getting darker",
            Wanted("purple", "square", "spinning", "fast", "at the top left", "grey", "darker"),
        ),
        ("a white star getting smaller slowly", Wanted("white", "star", "getting smaller", "slowly")),
    ],
)
def test_captions(caption, wanted):
    assert read_caption(caption) == wanted


@pytest.mark.parametrize(
    ("caption", "words"),
    [("a cat", "names 0 shapes"), ("a red circle and a blue star", "names 2 shapes"), ("a circle", "the colour")],
)
def test_captions_that_the_reader_cannot_judge(caption, words):
    with pytest.raises(ValueError, match=words):
        read_caption(caption)


@pytest.fixture
def folders(tmp_path):
    """True videos and flickering ones; in every third pair they change places."""
    clips = sample_clips(7, COUNT, scenes=SCENES)[:6]
    for number, (clip, (video, _, _)) in enumerate(zip(clips, truth(), strict=False)):
        arms = ("a", "b") if number % 3 else ("b", "a")
        for arm, frames in zip(arms, (video, FAULTS["flickering"](video)), strict=True):
            write_lossless(tmp_path / arm / f"{number:03d}_0.mkv", Video(frames, 8))
        (tmp_path / "a" / f"{number:03d}_0.txt").write_text(clip.caption)
    return tmp_path / "a", tmp_path / "b"


def test_votes_lie_beside_those_of_people(folders, tmp_path):
    session = Session(*folders, tmp_path / "session", check_every=2, report=lambda _: None)
    judge(session, report=lambda _: None)
    judge(session, report=lambda _: pytest.fail("judged again"))
    votes = session.store.votes()
    assert {vote.rater for vote in votes} == {READER} and len(votes) == len(session.tasks(READER)) == 12
    outcome = outcomes(votes)["quality"]
    assert (outcome.pairs, outcome.wins) == (6, 4) and outcome.reasons["consistency"] == (1, 1)
    attention = raters(votes)[READER]
    assert (attention.known_right, attention.repeats_alike) == (1, 1)


def test_the_command_compares_itself_with_people(folders, tmp_path, capsys):
    arguments = [*map(str, folders), "--folder", str(tmp_path / "session"), "--check-every", "0"]
    session = Session(*folders, tmp_path / "session", check_every=0, report=lambda _: None)
    for task in session.tasks("ann"):
        good = "b" if int(task.name[:3]) % 3 == 0 else "a"
        answers = {"quality": Answer(good, ("consistency",)), "faithfulness": Answer("a", ("spatial",))}
        session.store.add("ann", task, answers, 1.0)
    session.store.close()
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "| Which video do you prefer? | 67% (30% to 90%, n = 6) |" in printed.replace(f"{folders[0]} wins", "")
    assert "| Which video do you prefer? | 6 | 0 | 100% (61% to 100%) | 1.00 |" in printed


def test_people_who_do_not_count_are_not_compared(folders, tmp_path, capsys):
    session = Session(*folders, tmp_path / "session", check_every=1, report=lambda _: None)
    for task in session.tasks("clicker"):
        answers = {"quality": Answer("b", ("consistency",)), "faithfulness": Answer("b", ("spatial",))}
        session.store.add("clicker", task, answers, 1.0)
    session.store.close()
    assert command.main([*map(str, folders), "--folder", str(tmp_path / "session"), "--check-every", "1"]) == 0
    assert "kappa" not in capsys.readouterr().out


def test_frames_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="192 x 128 pixels.*square"):
        measured(np.zeros((8, 128, 192, 3), np.uint8), read_caption("a red circle moving right on a white background"))


def test_agreement_leaves_ties_out():
    def vote(rater, name, arm):
        answer = Answer(arm, () if arm == TIE else ("sharpness",))
        return Vote(rater, "pair", name, "a", {key: answer for key in QUESTIONS}, 1.0, 0.0)

    own = [vote("reader", name, arm) for name, arm in zip("pqrs", ("a", TIE, "b", "a"), strict=True)]
    people = [vote("ann", name, arm) for name, arm in zip("pqrs", "aabb", strict=True)]
    people += [vote("bob", name, "a") for name in "ps"]  # s has no majority
    found = agreement_of(own, people)["quality"]
    assert (found.pairs, found.ties, found.share, found.kappa) == (3, 1, 1.0, pytest.approx(1.0))
