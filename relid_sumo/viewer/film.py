"""Recorded pictures and films: the views of one or two windows with title, clock, legend and results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from PIL import Image, ImageDraw, ImageFont

from relid_sumo.base import files
from relid_sumo.base.errors import InputError, SimulationError, missing_extra

if TYPE_CHECKING:
    from collections.abc import Generator

ENDINGS = (".png", ".gif", ".mp4")
INK, GREY, RULE = (20, 24, 30), (95, 101, 110), (214, 218, 224)
DARK, ROAD = (30, 34, 40), (150, 156, 164)
GIF_COLOURS = 128


@dataclass(frozen=True)
class Row:
    """An agent in the table below the views: its name, its colour, and a text of each view."""

    name: str
    colour: tuple[int, int, int]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Caption:
    """The texts of a frame.

    Attributes
    ----------
    title, clock
        The scenario and the present time.
    heads
        Name of each view, and its state at this time.
    rows
        Travel times of the agents.
    result
        Result of the whole episode.
    foot
        Attribution of the map.
    notes
        Entries of the legend that this recording needs: ``probabilities``, ``incidents``, ``expert``.
    """

    title: str
    clock: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    result: str
    foot: str
    notes: frozenset[str] = frozenset()


def check(file: Path) -> None:
    """Check that a recording can be written.

    Raises
    ------
    InputError
        The ending is unknown, the folder does not exist or cannot be written, or the encoder is not installed.
    """
    if file.suffix.lower() not in ENDINGS:
        raise InputError(
            f"--record {file}: recordings are .png (a picture), .gif or .mp4 (films); give the name such an ending"
        )
    if not file.parent.is_dir():
        raise InputError(f"--record {file}: the folder {file.parent} does not exist; make it first")
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise InputError(f"--record {file}: the file cannot be written; choose another place")
    if file.suffix.lower() == ".mp4":
        _ffmpeg()


def _ffmpeg() -> Any:  # noqa: ANN401 - the package carries no types
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - of an extra
    except ImportError:
        raise missing_extra("imageio-ffmpeg", "video") from None
    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise InputError(
            f"--record of an .mp4 needs ffmpeg, and {str(error).splitlines()[0]}; install ffmpeg, or record a .gif"
        ) from None
    return imageio_ffmpeg


def framed(views: Sequence[Path], caption: Caption) -> Image.Image:
    """Return a frame: the pictures of the views side by side, with the caption around them."""
    pictures: list[Image.Image] = []
    for view in views:
        with Image.open(view) as opened:
            pictures.append(opened.convert("RGB"))
    gap = 8
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    height = max(p.height for p in pictures)
    unit = max(12, round(min(width, 1.6 * height) / 62))  # size of the text, pixels
    pad = round(0.7 * unit)
    top = round(2.3 * unit) + round(2.5 * unit)
    columns = max(1, min(len(caption.rows) or 1, width // (unit * (9 + 9 * len(views)))))
    lines = -(-len(caption.rows) // columns)
    below = round(1.6 * unit) * (lines + 1) + round(2.0 * unit) + 3 * round(1.9 * unit) + pad
    frame = Image.new("RGB", (width + width % 2, top + height + below + (top + height + below) % 2), "white")
    draw = ImageDraw.Draw(frame)
    big, normal, small = (_font(round(size * unit)) for size in (1.35, 1.0, 0.85))
    draw.text((pad, pad), caption.title, INK, big)
    draw.text((width - pad, pad), caption.clock, INK, big, anchor="ra")
    x = 0
    for picture, (name, state) in zip(pictures, caption.heads, strict=True):
        y = round(2.5 * unit)
        draw.rectangle((x, y, x + picture.width - 1, top - 1), fill=(240, 242, 245))
        draw.text((x + pad, y + round(0.55 * unit)), name, INK, big)
        draw.text((x + picture.width - pad, y + round(0.75 * unit)), state, INK, normal, anchor="ra")
        frame.paste(picture, (x, top))
        draw.rectangle((x, top, x + picture.width - 1, top + height - 1), outline=RULE)
        x += picture.width + gap
    y = top + height + round(0.5 * unit)
    y = _table(draw, caption, (pad, y, width, columns), unit, normal)
    draw.text((pad, y), caption.result, INK, _font(round(1.1 * unit)))
    y += round(2.0 * unit)
    y = _legend(draw, caption, (pad, y, width), unit, small)
    draw.text((pad, y), caption.foot, GREY, small)
    return frame.crop((0, 0, frame.width, y + round(1.8 * unit) // 2 * 2 + y % 2))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _table(
    draw: ImageDraw.ImageDraw,
    caption: Caption,
    place: tuple[int, int, int, int],
    unit: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> int:
    """Draw the agents' travel times in columns; return where the next line starts."""
    left, y, width, columns = place
    step = round(1.6 * unit)
    if len(caption.heads) > 1 and caption.rows:
        text = "Trip of each agent:  " + "  |  ".join([*(name for name, _ in caption.heads), "difference"])
        draw.text((left, y), text, GREY, font)
        y += step
    for number, row in enumerate(caption.rows):
        x = left + number % columns * (width // columns)
        here = y + number // columns * step
        draw.ellipse((x, here + unit * 0.15, x + unit * 0.9, here + unit * 1.05), fill=row.colour)
        draw.text((x + 1.4 * unit, here), f"{row.name}:  {'  |  '.join(row.texts)}", INK, font)
    return y + -(-len(caption.rows) // columns) * step + round(0.3 * unit)


def _legend(
    draw: ImageDraw.ImageDraw,
    caption: Caption,
    place: tuple[int, int, int],
    unit: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> int:
    """Draw what the signs in the views mean; return where the next line starts."""
    x, y, width = place
    agent = caption.rows[0].colour if caption.rows else (0, 114, 178)
    entries = ["car", "goal", "trail", "plan", "arrow"]
    entries += ["incident"] if "incidents" in caption.notes else []
    entries += ["other", "full"]
    words = {
        "car": "agent",
        "goal": "its destination",
        "trail": "route driven",
        "plan": "route of its expert" if "expert" in caption.notes else "route planned",
        "arrow": "decision: next edges, as wide as their probability (1.8x time: travel time over free flow)"
        if "probabilities" in caption.notes
        else "decision: next edges",
        "incident": "incident or surge",
        "other": "other vehicle",
        "full": "darker: fuller lane",
    }
    for entry in entries:
        size = round((2.0 if entry in {"trail", "plan", "full", "arrow"} else 0.9) * unit)
        if x + size + unit + draw.textlength(words[entry], font) > width:
            x, y = place[0], y + round(1.7 * unit)
        middle = y + round(0.55 * unit)
        box = (x, middle - 0.4 * unit, x + size, middle + 0.4 * unit)
        match entry:
            case "car":
                draw.rectangle((x, middle - 0.25 * unit, x + size, middle + 0.25 * unit), fill=agent)
            case "goal":
                draw.ellipse((x, middle - 0.45 * unit, x + size, middle + 0.45 * unit), fill=agent)
            case "incident":
                draw.ellipse((x, middle - 0.45 * unit, x + size, middle + 0.45 * unit), fill=(200, 30, 30))
            case "trail" | "plan" | "full":
                colour = ROAD if entry == "full" else agent
                thick = {"trail": 0.35, "plan": 0.1, "full": 0.25}[entry] * unit
                draw.line((x, middle, x + size, middle), fill=colour, width=max(1, round(thick)))
            case "arrow":
                draw.rectangle((x, middle - 0.12 * unit, x + size - 0.6 * unit, middle + 0.12 * unit), fill=agent)
                head = [(box[2] - 0.7 * unit, box[1]), (box[2], middle), (box[2] - 0.7 * unit, box[3])]
                draw.polygon(head, fill=agent)
            case _:
                draw.rectangle((x, middle - 0.12 * unit, x + 0.6 * unit, middle + 0.12 * unit), fill=DARK)
                size = round(0.6 * unit)
        draw.text((x + size + 0.5 * unit, y), words[entry], GREY, font)
        x += size + round(1.8 * unit + draw.textlength(words[entry], font))
    return y + round(1.8 * unit)


class Recording:
    """A file that frames are written to: a picture takes the last one, a film all. Use it as a context.

    Parameters
    ----------
    file
        The file. It appears when the context ends without an error.
    folder
        Temporary folder, on the same disk.
    frames_per_s
        Frames per second of a film.
    """

    def __init__(self, file: Path, folder: Path, frames_per_s: float) -> None:
        self._file, self._rate = file, frames_per_s
        self._kind = file.suffix.lower()
        self._part = folder / f"recording{self._kind}"
        self._pictures: list[Image.Image] = []
        self._writer: Generator[None, bytes, None] | None = None

    def __enter__(self) -> Self:
        """Return the recording."""
        return self

    def add(self, frame: Image.Image, repeat: int = 1) -> None:
        """Add a frame, `repeat` times."""
        if self._kind == ".png":
            self._pictures = [frame]
        elif self._kind == ".gif":
            small = frame.quantize(GIF_COLOURS, dither=Image.Dither.NONE)
            self._pictures += [small] * repeat
        else:
            if self._writer is None:
                self._writer = self._encoder(frame.size)
            for _ in range(repeat):
                self._writer.send(frame.tobytes())

    def _encoder(self, size: tuple[int, int]) -> Generator[None, bytes, None]:
        how = ["-preset", "veryfast", "-crf", "20", "-movflags", "+faststart", "-threads", "1"]
        writer: Generator[None, bytes, None] = _ffmpeg().write_frames(
            str(self._part), size, fps=self._rate, quality=None, macro_block_size=2, output_params=how,
            ffmpeg_log_level="error",
        )  # fmt: skip
        writer.send(None)  # type: ignore[arg-type]
        return writer

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Write the file; after an error, none."""
        if self._writer is not None:
            self._writer.close()
        if kind is not None:
            return
        if self._pictures:
            first, *rest = self._pictures
            if self._kind == ".png":
                first.save(self._part, optimize=True)
            else:
                first.save(self._part, save_all=True, append_images=rest, duration=round(1000 / self._rate), loop=0)
        if not self._part.is_file():
            raise SimulationError(f"sumo-gui took no picture for {self._file}; record at another time")
        files.put(self._part, self._file)
