"""What a run leaves to look at beside its weights: TensorBoard files and a plot of the losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glassgpt.core.runs import Run
from glassgpt.training.loop import Event


class TensorBoard:
    """Writes what happens as TensorBoard files, so that `tensorboard --logdir RUN` shows it while it happens."""

    def __init__(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(run.folder / "tensorboard"))

    def __call__(self, event: Event) -> None:
        """One event of the loop."""
        if event.kind == "step":
            self.writer.add_scalar("loss/train", event.values["loss"], event.progress.step)
            self.writer.add_scalar("gradient_norm", event.values["norm"], event.progress.step)
        elif event.kind == "evaluation":
            self.writer.add_scalar("loss/validation", event.values["val_loss"], event.progress.step)
            for number, text in enumerate(event.values["samples"]):
                self.writer.add_text(f"sample/{number}", text, event.progress.step)

    def close(self) -> None:
        """Write what is still held back."""
        self.writer.close()


def smoothed(values: list[float], span: int) -> list[float]:
    """The mean of each value and the `span` - 1 before it."""
    sums, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - span] if i >= span else 0.0)
        sums.append(total / min(i + 1, span))
    return sums


def plot_losses(run: Run, path: Path) -> None:
    """The losses of a run as a picture (.png or .svg, by the name); nothing when nothing was measured yet."""
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
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    return axes, figure
