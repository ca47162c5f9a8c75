"""Captured steps: on a GPU a training step is recorded once as a CUDA graph and then replayed.

A step of a small network is a few hundred kernels of a few microseconds. Launching them one by one
from Python takes longer than running them, so that the GPU would wait for the host. A CUDA graph
holds all of them and is launched as one. It holds addresses, not values: a step can be captured
only if it reads and writes the same tensors every time, counters and learning rates included, and
never asks the device for a number.

A captured step goes through three phases: a few ordinary calls on a side stream, in which cuBLAS
and the allocator settle and the optimizer makes its state; one recording; replays. A step that
cannot be recorded goes on with ordinary calls, after one warning.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from harness.training.devices import thread_stream

# Ordinary calls before the recording.
WARM_UP_CALLS = 3
# torch records one graph at a time in a process, and its debug mode is the whole process's.
_recording_lock = threading.Lock()
# The beginnings of torch's warnings in its debug mode: that the host waits for the device, and that
# the mode itself is a prototype.
_WAIT_WARNING = "called a synchronizing CUDA operation"
_MODE_WARNING = "Synchronization debug mode is a prototype"


class CapturedStep:
    """Calls `step`, on a GPU by replaying a CUDA graph of it.

    On a CPU every call is an ordinary one.

    Args:
        step: the step. It takes and returns nothing and works on fixed tensors alone.
        device: the device on which it works.
        enabled: whether it is recorded on a GPU.
    """

    def __init__(
        self, step: Callable[[], None], device: torch.device, enabled: bool = True
    ) -> None:
        self.step = step
        self.device = device
        self.recording = enabled and device.type == "cuda"
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        if self.recording:
            # Another thread that waited for long warns after the debug mode has ended.
            warnings.filterwarnings("ignore", message=_WAIT_WARNING)

    def __call__(self) -> None:
        """Makes the next call: an ordinary one, or a replay once the step is recorded."""
        if self.graph is None and self.recording and self.calls == WARM_UP_CALLS:
            self._record()
        self.calls += 1
        if self.graph is not None:
            self.graph.replay()
        elif not self.recording:
            self.step()
        elif self.calls < WARM_UP_CALLS:
            self._call_on_side_stream()
        else:
            self._call_and_watch_for_waits()

    def _call_on_side_stream(self) -> None:
        """Makes an ordinary call on another stream than the current one, as a recording will.

        No tensor that the graph uses is then tied to the default stream.
        """
        current = torch.cuda.current_stream(self.device)
        side = thread_stream(self.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            self.step()
        current.wait_stream(side)

    def _call_and_watch_for_waits(self) -> None:
        """Makes an ordinary call and gives up recording if the host waited for the device.

        Such a step must not even be tried: after a recording that broke off, the allocator of
        torch 2.11 believes that the recording goes on, and fails when its cache is emptied.
        """
        with _recording_lock, _waits_of_this_thread() as waits:
            self._call_on_side_stream()
        if waits:
            self._give_up("it waits for the device")

    def _record(self) -> None:
        """Records the graph; recording runs nothing, so that a failure has changed nothing."""
        graph = torch.cuda.CUDAGraph()
        side = thread_stream(self.device)
        try:
            # The stream is set here as well, because some versions of torch leave it set when a
            # recording fails. `thread_local`: another thread may allocate meanwhile.
            with (
                _recording_lock,
                torch.cuda.stream(side),
                torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"),
            ):
                self.step()
        except Exception as error:  # a user's activation may do anything that a graph cannot hold
            torch.cuda.synchronize(self.device)
            lines = str(error).splitlines()
            self._give_up(lines[0] if lines else type(error).__name__)
        else:
            self.graph = graph

    def _give_up(self, reason: str) -> None:
        self.recording = False
        warnings.warn(
            f"the training step cannot be recorded as a CUDA graph ({reason}); "
            "its operations are launched one by one, which is slower",
            RuntimeWarning,
            stacklevel=2,
        )


@contextlib.contextmanager
def _waits_of_this_thread() -> Iterator[list[str]]:
    """Collects torch's warnings that this thread waits for a device within the context.

    Other threads may wait meanwhile: their warnings are dropped, because they probe or evaluate.
    """
    thread = threading.get_ident()
    waits: list[str] = []
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        show = warnings.showwarning

        def note(message: Warning | str, *details: Any) -> None:
            text = str(message)
            if _WAIT_WARNING in text:
                if threading.get_ident() == thread:
                    waits.append(text)
            elif _MODE_WARNING not in text:
                show(message, *details)

        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode(mode)
