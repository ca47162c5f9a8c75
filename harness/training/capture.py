"""A step that a GPU replays: recorded once as a CUDA graph, so that the host's part of a step is one launch."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable

import torch

# Calls made one by one before the recording: cuBLAS and the allocator settle, optimizers make their state.
_WARM_UP = 3
# torch records one graph at a time in a process.
_RECORDING = threading.Lock()
# What torch says in its debug mode when the host waits for the device.
_WAITED = "called a synchronizing CUDA operation"
# One side stream for a device and a thread: cuBLAS keeps memory for every stream that it ever saw.
_streams: dict[tuple[torch.device, int], torch.cuda.Stream] = {}


class CapturedStep:
    """Calls `step`, which takes and returns nothing and works on fixed tensors alone.

    On a GPU it is recorded after a few calls and replayed from then on; where it cannot be recorded (it waits for the
    device, say) it goes on as it is, with one warning. On a CPU it is just called.
    """

    def __init__(
        self, step: Callable[[], None], device: torch.device, enabled: bool = True
    ) -> None:
        self.step, self.device = step, device
        self.recording = enabled and device.type == "cuda"
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self.graph is None and self.recording and self.calls == _WARM_UP:
            self._record()
        self.calls += 1
        if self.graph is not None:
            self.graph.replay()
        elif not self.recording:
            self.step()
        elif self.calls < _WARM_UP:
            self._call_aside()
        else:
            self._call_watched()

    def _call_aside(self) -> None:
        """On another stream, as a recording will be, so that no tensor of the graph is tied to the default stream."""
        here, aside = torch.cuda.current_stream(self.device), _side_stream(self.device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self.step()
        here.wait_stream(aside)

    def _call_watched(self) -> None:
        """A step that waits for the device is not even tried: after a recording that broke off the allocator of torch 2.11 takes it to be going on for ever, and fails when its cache is emptied."""
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                self._call_aside()
        finally:
            torch.cuda.set_sync_debug_mode(before)
        if any(_WAITED in str(one.message) for one in said):
            self._give_up("it waits for the device")

    def _record(self) -> None:
        graph, aside = torch.cuda.CUDAGraph(), _side_stream(self.device)
        try:
            # Recording runs nothing, so a step that cannot be recorded has changed nothing. `thread_local`: another thread may allocate meanwhile.
            # The stream is set here as well, because some versions of torch leave it set when a recording fails.
            with (
                _RECORDING,
                torch.cuda.stream(aside),
                torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"),
            ):
                self.step()
        except (
            Exception
        ) as error:  # whatever the step or a user's activation does that a graph cannot hold
            torch.cuda.synchronize(self.device)
            self._give_up((str(error).splitlines() or [type(error).__name__])[0])
        else:
            self.graph = graph

    def _give_up(self, reason: str) -> None:
        self.recording = False
        print(
            f"warning: the training step cannot be recorded as a CUDA graph ({reason}); it runs launch by launch",
            file=sys.stderr,
        )


def _side_stream(device: torch.device) -> torch.cuda.Stream:
    key = device, threading.get_ident()
    if key not in _streams:
        _streams[key] = torch.cuda.Stream(device)
    return _streams[key]
