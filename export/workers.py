# SPDX-License-Identifier: Apache-2.0
"""Worker processes of the export matrix: cells in on stdin, events out on stdout, one JSON document a line."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

import msgspec

from zoo import export
from zoo.bundle import check_writable, open_bundle
from zoo.errors import CheckFailed, DataError, ProviderUnavailable, TargetError, ZooError
from zoo.export.matrix import CellReport, Event, Inputs, Settings, Source, State, finished
from zoo.export.reserve import reserved
from zoo.export.trouble import cause

if TYPE_CHECKING:
    from zoo.export.exporter import Exporter
    from zoo.export.histogram import Method
    from zoo.export.inputs import Progress

#: Seconds that an interrupted worker has to put away what it is writing.
_PATIENCE = 2.0


class Pool:
    """Up to ``size`` workers, started when they are needed and anew when one has died."""

    def __init__(self, settings: Settings, size: int) -> None:
        self._settings = settings
        self._size = size
        self._workers: dict[int, _Worker] = {}
        self._events: queue.Queue[tuple[int, Event]] = queue.Queue()
        self.last: dict[int, str] = {}
        """Worker to the variant that it has traced."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def idle(self, running: Collection[int]) -> list[int]:
        """Workers without a cell."""
        return [number for number in range(self._size) if number not in running]

    def start(self, number: int, cell: CellReport) -> None:
        """Give a worker its next cell."""
        self.last[number] = cell.name
        if number in self._workers and self._workers[number].start(cell):
            return
        if number in self._workers:
            self._workers.pop(number).close()
        self._workers[number] = _Worker(number, self._settings, self._events)
        self._workers[number].start(cell)

    def wait(self) -> tuple[int, Event]:
        """The next event of any worker; the death of one is its cell's result."""
        number, event = self._events.get()
        if event.result is not None and not self._workers[number].alive:
            self._workers.pop(number).close()
            self.last.pop(number, None)
        return number, event

    def stop(self) -> None:
        """Interrupt the workers, and kill what has not ended soon after."""
        for worker in self._workers.values():
            worker.interrupt()
        until = time.monotonic() + _PATIENCE
        for worker in self._workers.values():
            worker.end(max(0.0, until - time.monotonic()))
            worker.close()
        self._workers.clear()


class _Worker:
    def __init__(self, number: int, settings: Settings, events: queue.Queue[tuple[int, Event]]) -> None:
        self._number, self._events = number, events
        self._cell: CellReport | None = None
        # What native libraries print; its last line tells why a worker died.
        self._noise: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        # The same modules as here, whatever the folder that we run in holds; a session of its own, so that Ctrl-C
        # reaches only us and we decide.
        code = f"import sys; sys.path[:] = {sys.path!r}; from zoo.export.workers import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            start_new_session=True,
        )
        self.alive = True
        self._lock = threading.Lock()
        self._send(msgspec.json.encode(settings))
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, cell: CellReport) -> bool:
        """Whether it took the cell; not where it has died while it had none."""
        with self._lock:
            if not self.alive:
                return False
            self._cell = cell
        self._send(msgspec.json.encode(cell))
        return True

    def interrupt(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def end(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._noise):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has died, which the listener reports
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                event = msgspec.json.decode(line, type=Event)
                if event.result is not None:
                    self._cell = None
                self._events.put((self._number, event))
        except (ValueError, msgspec.DecodeError):
            pass  # closed by stop, or cut off in the middle of a line
        code = self._process.wait()
        with self._lock:
            self.alive = False
            cell = self._cell
        if cell is not None:
            result = failed(cell, "export", self._epitaph(code))
            self._events.put((self._number, Event(result=result)))

    def _epitaph(self, code: int) -> str:
        how = f"with exit status {code}"
        if code < 0:
            how = f"of {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (the system kills so when memory runs out)"
        last = ""
        try:
            self._noise.seek(max(0, self._noise.seek(0, os.SEEK_END) - 4096))
            lines = [line.strip() for line in self._noise.read().decode(errors="replace").splitlines()]
            last = next((line for line in reversed(lines) if line), "")
        except (OSError, ValueError):
            pass
        return f"the exporting process died {how}" + (f": {last[:300]}" if last else "")


def failed(
    cell: CellReport, by: Source, reason: str, *, node: str | None = None, op: str | None = None
) -> CellReport:
    """The cell as refused, where engine or machine cannot have it, else as failed."""
    state: State = "refused" if by in ("engine", "machine") else "failed"
    return msgspec.structs.replace(cell, state=state, by=by, reason=reason, node=node, op=op)


def explained(cell: CellReport, error: Exception) -> CellReport:
    """The cell with the reason of an error that its export raised."""
    ran_out = cause(error)
    if ran_out is not None:
        return failed(cell, "export", ran_out)
    if not isinstance(error, ZooError):
        return failed(cell, "export", f"internal error: {type(error).__name__}: {error}")
    by: Source = "export"
    for kind, source in (
        (TargetError, "engine"),
        (ProviderUnavailable, "machine"),
        (DataError, "data"),
        (CheckFailed, "check"),
    ):
        if isinstance(error, kind):
            by = source  # type: ignore[assignment]
    node, op = getattr(error, "node", None), getattr(error, "op", None)
    return failed(cell, by, str(error), node=node, op=op)


class CellBuilder:
    """Builds cells in this process; the variant of the last one stays traced."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inputs = Inputs(settings)
        self._last: tuple[str, Exporter] | None = None

    def build(self, cell: CellReport, progress: Progress) -> CellReport:
        """Build, verify and write one cell; whatever goes wrong is in the result."""
        start = time.monotonic()
        path = Path(cell.bundle)
        try:
            with reserved(path):
                check_writable(path, force=True)
                exporter = self._exporter(cell, progress)
                manifest, contents = exporter.bundle(exporter.cell(cell.precision))
                progress("writing", 1, 1)
                export.publish(path, manifest, contents, force=True)
            manifest = open_bundle(path).manifest
        except Exception as error:
            return explained(cell, error)
        return finished(cell, manifest, "built", time.monotonic() - start)

    def _exporter(self, cell: CellReport, progress: Progress) -> Exporter:
        card, variant, target = self._inputs.of(cell)
        dataset = self._inputs.dataset(cell)
        exporter_type = export.Exporter  # says what to install, where torch is missing
        from zoo.export.builders import builder

        builder(target)  # a package that is missing is told before any work
        if self._last is None or self._last[0] != cell.name:
            self._last = None  # its memory is free before the next one takes its own
            method = cast("Method", self._settings.calibration)
            made = exporter_type(
                card, variant, target, None, dataset, method, self._settings.budget, progress
            )
            self._last = (cell.name, made)
        exporter = self._last[1].with_target(target)
        exporter.progress = progress
        return exporter


def main() -> None:
    """Entry point of a worker."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the events
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings)
    cells: queue.Queue[CellReport | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            cells.put(msgspec.json.decode(line, type=CellReport))
        # Whoever wanted the result has gone. Writes are atomic, so there is nothing to wait for.
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    lock = threading.Lock()

    def say(event: Event) -> None:
        with lock:
            channel.write(msgspec.json.encode(event) + b"\n")
            channel.flush()

    def progress(stage: str, done: int, total: int) -> None:
        say(Event(stage=stage, done=done, total=total))

    builder = CellBuilder(settings)
    try:
        while (cell := cells.get()) is not None:
            say(Event(result=builder.build(cell, progress)))
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        sys.stderr.flush()
        os._exit(0)
