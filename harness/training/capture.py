"""A step that a GPU replays: recorded once as a CUDA graph, so that the host's part of a step is one launch."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

# Calls made one by one before the recording: cuBLAS and the allocator settle, optimizers make their state.
_WARM_UP = 3


class CapturedStep:
    """Calls `step`, which takes and returns nothing and works on fixed tensors alone.

    On a GPU it is recorded after a few calls and replayed from then on; where it cannot be recorded (it waits for the
    device, say) it goes on as it is, with one warning. On a CPU it is just called.
    """

    def __init__(self, step: Callable[[], None], device: torch.device, enabled: bool = True) -> None:
        self.step = step
        self.recording = enabled and device.type == "cuda"
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream(device) if self.recording else None

    def __call__(self) -> None:
        if self.graph is None and self.recording and self.calls == _WARM_UP:
            self._record()
        self.calls += 1
        if self.graph is not None:
            self.graph.replay()
        elif self.recording:
            self._call_aside()
        else:
            self.step()

    def _call_aside(self) -> None:
        """On another stream, as a recording will be, so that no tensor of the graph is tied to the default stream."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.step()
        torch.cuda.current_stream().wait_stream(self.stream)

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # Recording runs nothing, so a step that cannot be recorded has changed nothing. `thread_local`: another thread may allocate meanwhile.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.step()
        except Exception as error:  # whatever the step or a user's activation does that a graph cannot hold
            self.recording = False
            torch.cuda.synchronize()
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"warning: the training step cannot be recorded as a CUDA graph ({reason}); it runs launch by launch", file=sys.stderr)
        else:
            self.graph = graph
