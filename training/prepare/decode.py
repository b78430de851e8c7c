"""Decode frames of a video file or of numbered pictures: upright, with square pixels, 8-bit RGB, with their times."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import av
import av.container
import av.error
import av.filter
import av.video.frame
import numpy as np
import PIL.Image
import PIL.ImageOps
from av.sidedata.sidedata import SideDataContainer

from .sources import ANIMATIONS, Source

HDR = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic
ENDS_EARLY = 0.9  # share of the stated length below which a note is made
GIF_DEFAULT = 0.1  # seconds that browsers show a frame whose duration is 0


class Unreadable(ValueError):
    """Error with the reason why a source cannot be decoded."""


@dataclass
class Frame:
    """One frame.

    Args:
        time: Seconds since the first frame.
        image: uint8 RGB [h, w, 3], or None if it is not needed.
        size: Displayed width and height of the source in pixels.
        after_gap: Whether the frames before this one are missing or damaged.
        kind: "I", "P" or "B" for a video codec, "" for pictures.
        vectors: Motion vectors of the codec as PyAV's array, or None.
    """

    time: float
    image: np.ndarray | None
    size: tuple[int, int]
    after_gap: bool = False
    kind: str = ""
    vectors: np.ndarray | None = None

    @property
    def picture(self) -> np.ndarray:
        """Image of a frame that has one."""
        assert self.image is not None
        return self.image


@dataclass
class Facts:
    """Properties of a file, set by `read`."""

    codec: str = ""
    pixels: str = ""
    rate: float = 0.0
    notes: list[str] = field(default_factory=list)


def read(
    source: Source,
    fps: float,
    *,
    wanted: Callable[[int], bool] = lambda index: True,
    longest: int | None = None,
    vectors: bool = False,
    facts: Facts | None = None,
) -> Iterator[Frame]:
    """Yield the frames of `source`, one at a time.

    Args:
        fps: Frame rate of numbered pictures, whose files state none.
        wanted: Returns whether the image of the frame with this index is needed.
        longest: Longest side of the images in pixels. Larger ones are scaled down.
        vectors: Whether to read the motion vectors of H.264.
        facts: Receives codec, pixel format, frame rate, and notes on damage.

    Raises:
        Unreadable: No frame can be decoded.
    """
    facts = facts if facts is not None else Facts()
    if source.pictures or source.path.suffix.lower() in ANIMATIONS:
        frames = _pictures(source, fps, wanted, longest, facts)
    else:
        frames = _video(source, wanted, longest, vectors, facts)
    count = 0
    try:
        for frame in frames:
            count += 1
            yield frame
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # PyAV and Pillow raise errors of any class for damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if not count:
            raise Unreadable(f"It cannot be read: {reason}.") from error
        facts.notes.append(f"It breaks off after {count} frames ({reason}); the frames before are used.")
    if not count:
        raise Unreadable("It has no frames.")


def _pictures(
    source: Source, fps: float, wanted: Callable[[int], bool], longest: int | None, facts: Facts
) -> Iterator[Frame]:
    """Yield the frames of an animated picture or of numbered pictures. Transparent pixels become black."""
    if not source.pictures:
        yield from _animation(source, wanted, longest, facts)
        return
    facts.codec, facts.rate = "pictures", fps
    size = None
    for index, path in enumerate(source.pictures):
        with PIL.Image.open(path) as opened:
            image = PIL.ImageOps.exif_transpose(opened)
            size, facts.pixels = size or image.size, image.mode
            if image.size != size:
                raise Unreadable(
                    f"{path.name} is {image.size[0]}x{image.size[1]}, but the pictures before are "
                    f"{size[0]}x{size[1]}: save all at the same size."
                )
            yield Frame(index / fps, _array(image, longest) if wanted(index) else None, size)


def _animation(source: Source, wanted: Callable[[int], bool], longest: int | None, facts: Facts) -> Iterator[Frame]:
    time = 0.0
    with PIL.Image.open(source.path) as opened:
        count = getattr(opened, "n_frames", 1)
        if count < 2:
            raise Unreadable("It is a still picture.")
        facts.codec, facts.pixels = (opened.format or "").lower(), opened.mode
        for index in range(count):
            opened.seek(index)
            opened.load()
            yield Frame(time, _array(opened, longest) if wanted(index) else None, opened.size)
            time += (opened.info.get("duration") or 0) / 1000 or GIF_DEFAULT
            facts.rate = (index + 1) / time


def _array(image: PIL.Image.Image, longest: int | None) -> np.ndarray:
    """Return a picture as uint8 RGB [h, w, 3]. Transparent pixels become black."""
    if image.mode in ("I;16", "I", "F"):
        raise Unreadable(f"Its pixel format is {image.mode}: save it with 8 bits per channel.")
    if image.has_transparency_data:
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    image = image.convert("RGB")
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image)


def _video(
    source: Source, wanted: Callable[[int], bool], longest: int | None, vectors: bool, facts: Facts
) -> Iterator[Frame]:
    with av.open(str(source.path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        if stream is None:
            raise Unreadable("It has no video stream, only sound.")
        assert isinstance(stream, av.VideoStream)
        codec = stream.codec_context
        facts.codec, facts.pixels = codec.name, codec.pix_fmt or ""
        facts.rate = float(stream.average_rate or stream.guessed_rate or 0)
        vectors = vectors and codec.name == "h264"
        if vectors:
            codec.options = {"flags2": "+export_mvs"}
        codec.thread_type = "SLICE"  # with frame threads, different frames of a damaged file would be lost in each run
        last = 0.0
        for frame in _upright(_decoded(container, stream, facts), stream, wanted, longest, vectors):
            last = frame.time
            yield frame
        whole = _seconds(container, stream)
        if last + 1 / (facts.rate or 1) < ENDS_EARLY * whole:
            facts.notes.append(f"Its last frame is at {last:.2f} s, although its length is {whole:.2f} s.")


def _seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Return the length that the file states in seconds, or 0 if it states none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, facts: Facts
) -> Iterator[tuple[av.VideoFrame, bool]]:
    """Yield decoded frames, and whether frames were lost before. After an error, skip frames up to a key frame."""
    lost, broken = False, 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            lost, broken = True, broken + 1
            continue
        for frame in frames:
            assert isinstance(frame, av.VideoFrame)
            if frame.is_corrupt or (lost and not frame.key_frame):
                lost = True
                continue
            yield frame, lost
            lost = False
    if broken:
        facts.notes.append(f"{broken} of its packets are damaged; clips do not contain their frames.")


def _upright(
    frames: Iterator[tuple[av.VideoFrame, bool]],
    stream: av.VideoStream,
    wanted: Callable[[int], bool],
    longest: int | None,
    vectors: bool,
) -> Iterator[Frame]:
    """Yield decoded frames as `Frame`s: deinterlaced, rotated as the file states, with square pixels."""
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    start = last = None
    for index, (frame, picture, lost) in enumerate(_deinterlaced(frames, stream)):
        if frame.color_trc in HDR:
            raise Unreadable(f"It is an HDR video ({HDR[frame.color_trc]}): convert it to SDR first.")
        time = frame.time if frame.time is not None else (0.0 if last is None else last + 1 / rate)
        if last is not None and time <= last:  # broken time stamps
            time = last + 1 / rate
        last, start = time, time if start is None else start
        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        width, height = round(frame.width * aspect), frame.height
        turns = round(frame.rotation / 90) % 4
        image = None
        if wanted(index):
            scale = min(1.0, longest / max(width, height)) if longest else 1.0
            image = _rgb(picture, max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.rot90(image, turns)
        yield Frame(
            time - start,
            image,
            (height, width) if turns % 2 else (width, height),
            after_gap=lost,
            kind=av.video.frame.PictureType(frame.pict_type).name,
            vectors=_vectors(frame) if vectors else None,
        )


def _deinterlaced(
    frames: Iterator[tuple[av.VideoFrame, bool]], stream: av.VideoStream
) -> Iterator[tuple[av.VideoFrame, av.VideoFrame, bool]]:
    """Yield each decoded frame, its deinterlaced picture, and whether frames were lost before.

    The filter returns each picture one frame later.
    """
    graph, waiting = None, deque()
    for frame, lost in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame, frame, lost
            continue
        if graph is None:
            graph = av.filter.Graph()
            yadif, sink = graph.add("yadif", "deint=interlaced"), graph.add("buffersink")
            graph.link_nodes(graph.add_buffer(template=stream), yadif, sink).configure()
        graph.push(frame)
        waiting.append((frame, lost))
        yield from _pulled(graph, waiting)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, waiting)


def _pulled(graph: av.filter.Graph, waiting: deque) -> Iterator[tuple[av.VideoFrame, av.VideoFrame, bool]]:
    while waiting:
        try:
            picture = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(picture, av.VideoFrame)
        frame, lost = waiting.popleft()
        yield frame, picture, lost


def _vectors(frame: av.VideoFrame) -> np.ndarray | None:
    """Return a copy of the motion vectors of a decoded frame."""
    # `frame.side_data` and the frame would refer to each other, so frames would not be freed immediately.
    found = SideDataContainer(frame).get("MOTION_VECTORS")  # pyright: ignore[reportCallIssue]
    return None if found is None else found.to_ndarray().copy()  # pyright: ignore[reportAttributeAccessIssue]


def _rgb(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """Return a decoded frame of any pixel format as uint8 RGB [height, width, 3]. Transparent pixels become black."""
    if not any(component.is_alpha for component in frame.format.components):
        return frame.to_ndarray(format="rgb24", width=width, height=height)
    pixels = frame.to_ndarray(format="rgba", width=width, height=height)
    opacity = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * opacity + 127) // 255).astype(np.uint8)
