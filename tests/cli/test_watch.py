"""What a training shows and keeps: files that TensorBoard can read, and a full disk that ends no training."""

from __future__ import annotations

import resource
import struct
import threading

import pytest
from tensorboardX.proto.event_pb2 import Event as Record

from glassgpt.cli.watch import Watch
from glassgpt.core.errors import GlassError
from glassgpt.core.runs import Run
from glassgpt.training.loop import Event
from glassgpt.training.record import TensorBoard, plot_losses
from glassgpt.training.state import Progress


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run", {})


@pytest.fixture
def small_disk():
    """No file may grow beyond 20 kB: the system itself refuses, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def step(number: int) -> Event:
    return Event("step", Progress(step=number), 10_000, {"loss": 1.0 / number, "norm": float(number)})


def evaluation(number: int, *samples: str) -> Event:
    return Event("evaluation", Progress(step=number), 9, {"val_loss": 2.5, "samples": list(samples), "best": True})


def crc32c(data: bytes) -> int:
    """The masked checksum of a record, bit by bit: Castagnoli's polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(run: Run) -> list[Record]:
    """The records of the run's one file, read by the description of the format."""
    (path,) = (run.folder / "tensorboard").glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        size, check = struct.unpack("<QI", data[:12])
        body, (after,) = data[12 : 12 + size], struct.unpack("<I", data[12 + size : 16 + size])
        assert (check, after) == (crc32c(data[:8]), crc32c(body))
        found.append(Record.FromString(body))
        data = data[16 + size :]
    return found


def test_tensorboard_files_hold_the_losses_and_the_samples(run):
    board = TensorBoard(run)
    for event in (step(1), step(2), evaluation(2, "你好 sea")):
        board(event)
    board.close()
    first, *rest = records(run)
    assert first.file_version == "brain.Event:2" and board.fault is None
    told = [(r.step, v.tag, v.simple_value) for r in rest for v in r.summary.value if v.HasField("simple_value")]
    assert told == [
        (1, "loss/train", 1.0), (1, "gradient_norm", 1.0), (2, "loss/train", 0.5), (2, "gradient_norm", 2.0),
        (2, "loss/validation", 2.5),
    ]  # fmt: skip
    text = rest[-1].summary.value[0]
    assert (text.tag, text.tensor.string_val[0].decode()) == ("sample/0/text_summary", "你好 sea")


def test_a_full_disk_gives_the_board_up_and_says_so_once(run, small_disk, capfd):
    """Where the checkpoint is refused as well, that is the error: nothing of the board's stands before it."""
    threads = threading.active_count()
    with pytest.raises(GlassError, match="the checkpoint"), Watch(run, "en") as watch:
        for number in range(1, 2000):
            watch(step(number))
        raise GlassError("the checkpoint could not be written")
    told = capfd.readouterr().err
    assert told.count("TensorBoard files are no longer written: File too large") == 1
    assert "Traceback" not in told and threading.active_count() == threads


def test_a_disk_that_is_full_only_at_the_end_is_told_too(run, small_disk, capfd):
    with Watch(run, "zh") as watch:
        watch(step(1))
        watch(evaluation(1, *["x" * 4000] * 4))
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        watch(evaluation(2, "y" * 4000))
    assert capfd.readouterr().err.count("不再写入 TensorBoard 文件：") == 1


def test_a_folder_that_cannot_be_made_ends_no_training(run, capfd):
    (run.folder / "tensorboard").write_text("in the way")
    with Watch(run, "en") as watch:
        for number in range(1, 5):
            watch(step(number))
    assert capfd.readouterr().err.count("TensorBoard files are no longer written") == 1


def test_a_plot_that_the_disk_refuses_is_an_error_of_one_line(run, tmp_path):
    run.measure(step=1, tokens=5, loss=2.0)
    run.measure(step=2, tokens=9, loss=1.0)
    plot_losses(run, tmp_path / "fine.png")
    assert (tmp_path / "fine.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(GlassError, match=r"loss\.png could not be written"):
        plot_losses(run, tmp_path / "none" / "loss.png")
