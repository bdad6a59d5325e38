"""Questions about a long video: frames and segments as handles, captions by a vision LM, evidence with timestamps.

    python examples/long_video.py

A two-hour lecture, sampled every thirty seconds: 240 frames and a transcript with times. The transcript leads to the minutes that matter, and only their
frames are shown to the vision LM. The video is synthetic, its frames are slides of one colour; with ffmpeg, `ffmpeg -i talk.mp4 -vf fps=1/30 %04d.png` makes
frames of your own. Scripted policies play the models, unless DSPY_RLM_MODEL names a real one that reads images.
"""

from __future__ import annotations

import base64
import struct
import zlib

import dspy
import pydantic

import dspy_rlm
from dspy_rlm.testing import Action, ChatRequest, choose_models, policy

EVERY = 30
COLOURS = {
    "title": (20, 20, 120),
    "code": (20, 120, 20),
    "chart": (160, 60, 20),
    "speaker": (90, 90, 90),
}


class Segment(pydantic.BaseModel):
    """A sentence of the transcript, with its time."""

    start: int
    text: str


class Moment(pydantic.BaseModel):
    """Evidence: a moment of the video."""

    seconds: int
    said: str
    shown: str


class AskVideo(dspy.Signature):
    """Answer a question about a video. Frame n was taken at n times `every` seconds."""

    frames: list[dspy.Image] = dspy.InputField()
    every: int = dspy.InputField()
    transcript: list[Segment] = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    evidence: list[Moment] = dspy.OutputField()


def png(colour: tuple[int, int, int]) -> bytes:
    """Returns a picture of 8 x 8 pixels in one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes(colour) * 8) * 8
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def lecture() -> tuple[list[dspy.Image], list[Segment]]:
    """Returns the frames and the transcript of two hours."""
    shown = ["speaker"] * 240
    shown[0], shown[96], shown[98], shown[200] = "title", "code", "chart", "chart"
    addresses = {name: base64.b64encode(png(colour)).decode() for name, colour in COLOURS.items()}
    frames = [dspy.Image(url=f"data:image/png;base64,{addresses[name]}") for name in shown]
    spoken = {n: f"We continue with point {n}." for n in range(0, 240, 2)}
    spoken[96] = "Here is the whole cache in twelve lines of code."
    spoken[98] = "And this chart has the speedup of the cache: four times."
    spoken[200] = "A chart of the budget, which nobody asked for."
    return frames, [Segment(start=n * EVERY, text=text) for n, text in sorted(spoken.items())]


@policy
def root(task):
    """Plays the root LM: the transcript narrows the time, the vision LM looks at those frames."""
    yield Action(
        "Text is cheap: where do they speak of the cache?",
        "hits = [s for s in transcript if 'cache' in s.text.lower()]\n"
        "for s in hits:\n    print(s.start, s.text)\nprint(len(frames), 'frames', frames[0])",
    )
    yield Action(
        "Look at the frames from a minute before to a minute after each.",
        "near = sorted({n for s in hits for n in range(s.start // every - 2, s.start // every + 3)})\n"
        "captions = sub_llm_batched([('What kind of slide is this? One word.', frames[n]) for n in near])\n"
        "print(dict(zip(near, captions)))",
    )
    yield Action(
        "The chart beside the sentence about the speedup.",
        "slide = {n: c for n, c in zip(near, captions) if c in ('code', 'chart')}\n"
        "moments = [dict(seconds=n * every, said=min(hits, key=lambda s: abs(s.start - n * every)).text, shown=c)\n"
        "           for n, c in slide.items()]\n"
        "SUBMIT(answer=hits[-1].text, evidence=moments)",
    )


def look(request: ChatRequest) -> str:
    """Plays the vision LM: it decodes the picture in the request, and names its kind by its colour."""
    parts = [
        part
        for message in request.raw["messages"]
        for part in message["content"]
        if isinstance(part, dict)
    ]
    (address,) = [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
    picture = base64.b64decode(address.partition(",")[2])
    data = zlib.decompress(picture[picture.index(b"IDAT") + 4 :])
    return next(name for name, colour in COLOURS.items() if tuple(data[1:4]) == colour)


def main() -> None:
    """Asks about the lecture."""
    models = choose_models(root, look)
    frames, transcript = lecture()
    rlm = dspy_rlm.RLM(AskVideo, sub_lm={"vision": (models.sub, "reads images")}, max_llm_calls=40)
    with dspy.context(lm=models.root):
        found = rlm(
            frames=frames,
            every=EVERY,
            transcript=transcript,
            question="What does the cache gain, and where is it shown?",
        )
    print(found.answer)
    for moment in found.evidence:
        hours, rest = divmod(moment.seconds, 3600)
        print(f"{hours}:{rest // 60:02}:{rest % 60:02} {moment.shown}: {moment.said}")
    print(f"{len(found.run.sub_calls)} of {len(frames)} frames were looked at")
    if models.scripted:
        assert [(moment.seconds, moment.shown) for moment in found.evidence] == [
            (2880, "code"),
            (2940, "chart"),
        ]


if __name__ == "__main__":
    main()
