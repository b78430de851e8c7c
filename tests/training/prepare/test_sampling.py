import pytest
from emu_video.training.prepare.sampling import TooFewFrames, clips


def even(count: int, fps: float) -> list[float]:
    return [index / fps for index in range(count)]


def test_same_rate_takes_every_frame():
    (span,) = clips(even(8, 8), [], frames=8, fps=8)
    assert span.frames == tuple(range(8)) and (span.start, span.stop) == (0, 1)


def test_all_clips_without_overlap():
    spans = clips(even(26, 8), [], frames=8, fps=8)
    assert [span.frames[0] for span in spans] == [1, 9, 17]  # the rest is shared between both ends
    assert all(span.frames == tuple(range(span.frames[0], span.frames[0] + 8)) for span in spans)


@pytest.mark.parametrize(("rate", "expected"), [(24, (0, 3, 6, 9)), (30, (0, 3, 7, 11)), (25, (0, 3, 6, 9))])
def test_resampling_shows_the_frame_of_each_moment(rate, expected):
    (span,) = clips(even(round(rate * 4 / 8), rate), [], frames=4, fps=8)
    assert span.frames == expected


def test_variable_rate_goes_by_time():
    times = [0, 0.01, 0.02, 0.125, 0.2, 0.25, 0.375, 0.4]
    (span,) = clips(times, [], frames=4, fps=8)
    assert span.frames[:3] == (0, 3, 5) and [times[index] for index in span.frames] == pytest.approx(
        [0, 0.125, 0.25, 0.375]
    )


def test_no_clip_spans_a_cut():
    spans = clips(even(60, 10), [7, 21, 50], frames=8, fps=8)
    scenes = [(0, 7), (7, 21), (21, 50), (50, 60)]
    assert len(spans) >= 3
    for span in spans:
        assert any(first <= span.frames[0] and span.frames[-1] < end for first, end in scenes)


def test_clips_per_video_are_evenly_spread():
    spans = clips(even(800, 8), [], frames=8, fps=8, per_video=4)
    assert [round(span.start) for span in spans] == [12, 37, 62, 87]
    assert len(clips(even(16, 8), [], frames=8, fps=8, per_video=4)) == 2


def test_short_videos_say_how_short():
    with pytest.raises(TooFewFrames, match="Its longest part is 0.50 s, but a clip of 8 frames at 8 fps needs 1.00 s"):
        clips(even(4, 8), [], frames=8, fps=8)
    with pytest.raises(TooFewFrames, match="between two cuts"):
        clips(even(14, 8), [5, 10], frames=8, fps=8)
    with pytest.raises(TooFewFrames, match="longest part is 0.00 s"):
        clips([0.0], [], frames=8, fps=8)


def test_a_rate_below_that_of_the_clips_is_refused():
    with pytest.raises(TooFewFrames, match="frame rate is too low: at 8 fps, 43% of a clip's frames"):
        clips(even(40, 5), [], frames=8, fps=8)
    assert clips(even(40, 7.5), [], frames=8, fps=8)


def test_repeated_frames_of_a_clip_as_the_docs_count_them():
    times = [time for index, time in enumerate(even(16, 8)) if index != 3]
    assert len(clips(times, [], frames=16, fps=8)) == 1
    (span,) = clips(times, [], frames=8, fps=8)
    assert span.frames == tuple(range(7, 15))


def test_a_frozen_stretch_gives_no_clip():
    times = [*even(16, 8), *(10 + time for time in even(16, 8))]  # 8 seconds without a new frame
    spans = clips(times, [], frames=8, fps=8)
    assert spans and all(span.stop < 2.2 or span.start > 9.8 for span in spans)
