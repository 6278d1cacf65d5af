"""What came of a run of inference on files."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmseg.visualization.films import Codec

OVERLAY_VIDEO = "overlay.mp4"
NOT_IN_BROWSERS = (
    ", which no browser plays: this OpenCV writes neither H.264 nor VP9; convert it for browsers with ffmpeg -i "
    "overlay.mp4 -c:v libx264 -pix_fmt yuv420p film.mp4"
)
LISTED_NAMES = 5


@dataclass
class InferenceReport:
    """Result of a run.

    Attributes:
        outputs: output of the network -> number of predicted images.
        failures: one message per image that could not be predicted.
        without_events: names of the images for which the recording has no events.
        seconds: duration of the run.
        network_seconds: time in the network, including copies to and from the device.
        film: encoding of ``overlay.mp4``; None if it is not written.
        unit: what messages call the images.
        skipped: one message per picture or video of a folder that is not read.
        passed_over: frames of a stream that came while the network was busy.
    """

    outputs: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    without_events: list[str] = field(default_factory=list)
    seconds: float = 0.0
    network_seconds: float = 0.0
    film: Codec | None = None
    unit: str = "pictures"
    skipped: list[str] = field(default_factory=list)
    passed_over: int = 0

    @property
    def written(self) -> int:
        """Number of predicted images."""
        return sum(self.outputs.values())

    def lines(self) -> list[str]:
        """Summary of the run for people."""
        outputs = ", ".join(f"{output} output: {count:,}" for output, count in self.outputs.items())
        total = self.written + len(self.failures)
        lines = [f"{self.written:,} of {total:,} {self.unit} predicted" + (f" ({outputs})" if outputs else "")]
        if self.written:
            lines[0] += (
                f" in {self.seconds:.1f} s: {self.written / self.seconds:.2f} {self.unit}/s, the network alone "
                f"{self.written / self.network_seconds:.2f}"
            )
        if self.without_events:
            shown = ", ".join(self.without_events[:LISTED_NAMES]) + (
                ", ..." if len(self.without_events) > LISTED_NAMES else ""
            )
            lines.append(f"no events, or not a whole window, for {len(self.without_events):,} of them: {shown}")
        if self.passed_over:
            lines.append(f"{self.passed_over:,} frames came while the network was busy, and were passed over")
        if self.skipped:
            more = len(self.skipped) - LISTED_NAMES
            shown = ", ".join(self.skipped[:LISTED_NAMES]) + (f" and {more:,} more" if more > 0 else "")
            lines.append(f"not read: {shown}")
        if self.film is not None:
            lines.append(f"{OVERLAY_VIDEO} is {self.film.name}" + ("" if self.film.in_browsers else NOT_IN_BROWSERS))
        return lines

    def add(self, name: str, output: str, lacks_events: bool) -> None:
        """Count a predicted image."""
        self.outputs[output] = self.outputs.get(output, 0) + 1
        if lacks_events:
            self.without_events.append(name)
