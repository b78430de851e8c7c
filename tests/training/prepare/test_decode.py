import gc
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
from emu_video.tests.training.prepare.videos import animate, moving, quarters, sound, write
from emu_video.training.prepare.decode import Facts, Unreadable, read
from emu_video.training.prepare.sources import Source


def frames_of(path: Path, **options):
    return list(read(Source(path, path.name), 8.0, **options))


def corners(image: np.ndarray) -> list[str]:
    """Colours of upper left, upper right, lower left and lower right."""
    names = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
    height, width = image.shape[:2]
    places = [
        (height // 4, width // 4),
        (height // 4, -width // 4),
        (-height // 4, width // 4),
        (-height // 4, -width // 4),
    ]
    return [min(names, key=lambda name: np.abs(image[place].astype(int) - names[name]).sum()) for place in places]


UPRIGHT = ["red", "green", "blue", "white"]

CODECS = [
    ("a.mp4", {}), ("a.mov", {"codec": "prores_ks", "pixels": "yuv422p10le"}),
    ("a.mkv", {"codec": "libx265", "pixels": "yuv420p10le", "options": {"x265-params": "log-level=none:pools=none"}}),
    ("a.webm", {"codec": "libvpx-vp9"}), ("b.webm", {"codec": "libvpx"}), ("a.avi", {"codec": "mpeg4"}),
    ("b.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}), ("a.mpg", {"codec": "mpeg2video", "fps": 25}),
    ("b.mkv", {"codec": "ffv1", "pixels": "bgr0"}), ("a.wmv", {"codec": "wmv2"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CODECS, ids=[f"{o.get('codec', 'libx264')}-{n}" for n, o in CODECS])
def test_codecs(tmp_path, name, options):
    path = write(tmp_path / name, quarters(), **options)
    frames = frames_of(path)
    assert len(frames) == 16 and all(frame.size == (64, 48) for frame in frames)
    assert corners(frames[0].picture) == corners(frames[-1].picture) == UPRIGHT
    assert frames[0].time == 0 and frames[-1].time == pytest.approx(15 / options.get("fps", 8), abs=2e-3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_animated_pictures_keep_the_times_of_their_frames(tmp_path, name):
    frames = frames_of(animate(tmp_path / name, moving(4), [100, 300, 100, 100]))
    assert [round(frame.time, 3) for frame in frames] == [0, 0.1, 0.4, 0.5]


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_transparent_pixels_are_black(tmp_path, name):
    pixels = np.full((3, 16, 16, 4), 255, np.uint8)
    pixels[:, :, 8:, 3] = 0
    pixels[1:, 0, 0, 0] = 0  # so that no frame is dropped as a repetition
    pixels[2:, 0, 1, 0] = 0
    image = frames_of(animate(tmp_path / name, pixels))[-1].picture
    assert image[8, 2].tolist() == [255, 255, 255] and image[8, 12].tolist() == [0, 0, 0]


def test_alpha_of_a_video_is_put_on_black(tmp_path):
    pixels = np.full((8, 32, 32, 4), 200, np.uint8)
    pixels[..., 3] = 255
    pixels[:, :, 16:, 3] = 0
    image = frames_of(write(tmp_path / "a.mov", pixels, codec="qtrle", pixels="argb"))[0].picture
    assert image[8, 4].tolist() == [200] * 3 and image[8, 28].tolist() == [0] * 3


def test_rotation_flag(tmp_path):
    frame = frames_of(write(tmp_path / "a.mp4", quarters(8), rotation=90))[0]
    assert frame.size == (48, 64) and frame.picture.shape == (64, 48, 3)
    assert corners(frame.picture) == ["green", "white", "red", "blue"]  # turned against the clock


def test_pixels_that_are_not_square(tmp_path):
    frame = frames_of(write(tmp_path / "a.mp4", quarters(8), aspect=Fraction(2, 1)))[0]
    assert frame.size == (128, 48) and frame.picture.shape == (48, 128, 3)


def test_odd_sizes(tmp_path):
    frames = quarters(8, width=63, height=47)
    assert frames_of(write(tmp_path / "a.mkv", frames, codec="ffv1", pixels="yuv444p"))[0].picture.shape == (47, 63, 3)
    assert frames_of(animate(tmp_path / "a.gif", moving(8, 63, 47)))[0].picture.shape == (47, 63, 3)


def test_variable_frame_rate(tmp_path):
    times = [0, 40, 80, 400, 440, 900, 1000, 1100]
    frames = frames_of(write(tmp_path / "a.mkv", moving(8), times=times))
    assert [round(frame.time * 1000) for frame in frames] == times


def test_interlaced_video_is_deinterlaced(tmp_path):
    """Two fields of other moments: the lines of a moving edge must not alternate."""
    both = moving(32, 96, 64, speed=6)
    woven = both[0::2].copy()
    woven[:, 1::2] = both[1::2][:, 1::2]
    path = write(
        tmp_path / "a.mkv",
        woven,
        codec="mpeg2video",
        fps=25,
        interlaced=True,
        options={"field_order": "tt", "qscale": "1"},
    )
    frames = frames_of(path)
    assert len(frames) == 16

    def combing(image: np.ndarray) -> float:
        lines = image.astype(float)
        return np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean()

    assert combing(frames[8].picture) < 0.5 * combing(woven[8])


def test_a_cut_off_file_gives_what_it_has(tmp_path):
    path = write(tmp_path / "a.mkv", moving(64), options={"g": "8"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 8 <= len(frames_of(path, facts=(facts := Facts()))) < 60
    assert "Its last frame is at" in facts.notes[-1]


def test_a_broken_middle_is_a_gap(tmp_path):
    """Frames that depend on what is lost are left out, and the next one is marked."""
    clean = moving(64, seed=3)
    path = write(tmp_path / "a.mp4", clean, options={"g": "8", "crf": "10"})
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, len(data) // 10
    data[middle : middle + length] = np.random.default_rng(0).integers(0, 255, length, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(data))
    frames = frames_of(path, facts=(facts := Facts()))
    assert 32 < len(frames) < 64
    assert [index for index, (a, b) in enumerate(pairwise(frames)) if b.time - a.time > 0.13] == [
        index - 1 for index, frame in enumerate(frames) if frame.after_gap
    ]
    assert "packets are damaged" in facts.notes[0]
    errors = [np.abs(frame.picture - clean[round(frame.time * 8)].astype(int)).mean() for frame in frames]
    assert max(errors) < 12


def test_files_without_frames_say_why(tmp_path):
    with pytest.raises(Unreadable, match="no video stream"):
        frames_of(sound(tmp_path / "a.mp4"))
    (tmp_path / "b.mp4").write_bytes(b"this is no video" * 100)
    with pytest.raises(Unreadable, match="cannot be read"):
        frames_of(tmp_path / "b.mp4")
    (tmp_path / "c.mp4").write_bytes(b"")
    with pytest.raises(Unreadable, match="cannot be read"):
        frames_of(tmp_path / "c.mp4")
    whole = write(tmp_path / "d.mp4", moving(16))
    whole.write_bytes(whole.read_bytes()[:-400])  # its index is at the end
    with pytest.raises(Unreadable, match="cannot be read"):
        frames_of(whole)
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "e.webp")
    with pytest.raises(Unreadable, match="still picture"):
        frames_of(tmp_path / "e.webp")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_title_in_another_encoding_is_replaced(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as container:
        container.metadata["title"] = "XXcafeXX"
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        for picture in moving(8, 64, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    data = (tmp_path / name).read_bytes()
    assert data.count(b"XXcafeXX") == 1
    (tmp_path / name).write_bytes(data.replace(b"XXcafeXX", b"XXcaf\xe9XX"))
    assert len(frames_of(tmp_path / name)) == 8


def test_a_cut_off_animation_gives_what_it_has_or_a_reason(tmp_path):
    path = animate(tmp_path / "a.gif", np.random.default_rng(0).integers(0, 255, (6, 24, 24, 3), dtype=np.uint8))
    whole, refused, notes = path.read_bytes(), 0, 0
    for length in range(20, len(whole), 37):
        path.write_bytes(whole[:length])
        try:
            frames_of(path, facts=(facts := Facts()))
            notes += any("It breaks off after" in note for note in facts.notes)
        except Unreadable:
            refused += 1
    assert refused and notes


def test_hdr_is_refused(tmp_path):
    path = write(
        tmp_path / "a.mkv", moving(8), codec="libx265", pixels="yuv420p10le",
        options={"x265-params": "log-level=none:transfer=16:colorprim=9:colormatrix=9:pools=none"},
    )  # fmt: skip
    with pytest.raises(Unreadable, match="HDR video"):
        frames_of(path)


def test_numbered_pictures_of_two_sizes_are_refused(tmp_path):
    for number, size in enumerate([(8, 8), (8, 9)]):
        PIL.Image.new("RGB", size).save(tmp_path / f"{number}.png")
    source = Source(tmp_path, "f", pictures=tuple(sorted(tmp_path.glob("*.png"))))
    with pytest.raises(Unreadable, match="1.png is 8x9"):
        list(read(source, 8.0))


def test_only_wanted_frames_become_pictures(tmp_path):
    frames = frames_of(write(tmp_path / "a.mp4", moving(16)), wanted={3, 5}.__contains__, longest=32)
    assert [index for index, frame in enumerate(frames) if frame.image is not None] == [3, 5]
    assert frames[3].picture.shape == (24, 32, 3) and frames[3].size == (64, 48)


def test_motion_vectors_are_there_for_h264_only_when_asked(tmp_path):
    path = write(tmp_path / "a.mp4", moving(16))
    assert all(frame.vectors is None for frame in frames_of(path))
    assert any(frame.vectors is not None for frame in frames_of(path, vectors=True))


@pytest.mark.parametrize("vectors", [False, True])
def test_frames_are_freed_while_a_file_is_read(tmp_path, vectors):
    """However long a video is, a few of its frames are in memory, also before garbage is collected."""
    source = Source(write(tmp_path / "a.mp4", moving(200)), "a")
    gc.collect()
    gc.disable()
    try:
        for frame in read(source, 8.0, vectors=vectors):
            assert frame.vectors is None or len(frame.vectors)
        assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) < 8
    finally:
        gc.enable()
