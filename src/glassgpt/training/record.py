"""What a run leaves to look at beside its weights: TensorBoard files and a plot of the losses."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from glassgpt.core.files import refusing_disk
from glassgpt.core.runs import Run
from glassgpt.training.loop import Event

FLUSH_SECONDS = 30.0  # how far behind the training the files may be


class TensorBoard:
    """Writes what happens as TensorBoard files, so that `tensorboard --logdir RUN` shows it while it happens.

    No training ends because of them: what the disk refuses is kept in `fault`, and nothing is written from then on.
    tensorboardX's records are used without its `SummaryWriter`, whose thread dies of a full disk with a traceback,
    after which the next events wait for it for ever.
    """

    def __init__(self, run: Run) -> None:
        self.folder = run.folder / "tensorboard"
        self.fault: OSError | None = None
        self._file: Any = None
        self._flushed = 0.0

    def __call__(self, event: Event) -> None:
        """One event of the loop."""
        from tensorboardX.summary import scalar, text

        summaries: list[Any] = []
        if event.kind == "step":
            summaries = [scalar("loss/train", event.values["loss"]), scalar("gradient_norm", event.values["norm"])]
        elif event.kind == "evaluation":
            summaries = [scalar("loss/validation", event.values["val_loss"])]
            summaries += [text(f"sample/{i}", sample) for i, sample in enumerate(event.values["samples"])]
        if not summaries or self.fault:
            return
        try:
            for summary in summaries:
                self._write(summary=summary, step=event.progress.step)
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._file.flush()
                self._flushed = time.monotonic()
        except OSError as error:
            self.fault = error
            self.close()

    def close(self) -> None:
        """Write what is still held back."""
        try:
            if self._file:
                self._file.close()
        except OSError as error:
            self.fault = self.fault or error
        self._file = None

    def _write(self, **values: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event as Record
        from tensorboardX.record_writer import RecordWriter

        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
            self._file = RecordWriter(str(self.folder / name))
            self._write(file_version="brain.Event:2")
        self._file.write(Record(wall_time=time.time(), **values).SerializeToString())


def smoothed(values: list[float], span: int) -> list[float]:
    """The mean of each value and the `span` - 1 before it."""
    sums, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - span] if i >= span else 0.0)
        sums.append(total / min(i + 1, span))
    return sums


def plot_losses(run: Run, path: Path) -> None:
    """The losses of a run as a picture (.png or .svg, by the name); nothing when nothing was measured yet. Raises
    GlassError: the disk refuses it."""
    metrics = run.metrics()
    train = [(m["tokens"], m["loss"]) for m in metrics if "loss" in m]
    held_out = [(m["tokens"], m["val_loss"]) for m in metrics if "val_loss" in m]
    if train:
        axes, figure = _axes()
        tokens, losses = zip(*train, strict=True)
        axes.plot(tokens, smoothed(list(losses), max(1, len(losses) // 50)), label="training", linewidth=1)
        if held_out:
            axes.plot(*zip(*held_out, strict=True), "o-", label="held out", markersize=4)
        axes.set_xlabel("tokens trained on")
        axes.set_ylabel("loss (nats per token)")
        axes.legend()
        with refusing_disk(path):
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    return axes, figure
