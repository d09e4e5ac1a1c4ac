"""Run a training step on a GPU without waiting for Python: record its kernels once, then replay them."""

from contextlib import contextmanager

import torch

__all__ = ["Replayed"]


class Replayed:
    """A function of tensors that is recorded as a CUDA graph after its first calls and replayed from then on.

    A small network needs hundreds of kernels of a few microseconds each, and Python takes longer to launch one than the GPU
    to run it. A graph launches them all at once: the same kernels on the same memory, so the same results. On a CPU, and for
    inputs of another shape than the first, such as the last batch of an epoch, the function is simply called.

    Parameters
    ----------
    function : callable
        From tensors to one tensor. Whatever else it changes must be changed in place, and on the GPU alone: it may not read
        a number back, nor depend on numbers that Python computes anew in each call.
    device : torch.device
        Of all its tensors.
    before : int
        Calls that run as usual first: libraries choose their kernels, optimisers make their state.
    """

    def __init__(self, function, device, *, before=3):
        self.function, self.device, self.before = function, device, before
        # Not the default stream, which cannot be recorded.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._shapes = self._graph = None
        self._calls = 0
        self.replayed = False  # whether the last call ran no Python

    def __call__(self, *inputs):
        shapes = [tuple(tensor.shape) for tensor in inputs]
        self._shapes = shapes if self._shapes is None else self._shapes
        self.replayed = False
        if self._stream is None or shapes != self._shapes or self._calls < self.before:
            self._calls += shapes == self._shapes
            with self.aside():
                return self.function(*inputs)
        with torch.cuda.device(self.device):  # graphs belong to the current device
            return self._replay(inputs)

    @contextmanager
    def aside(self):
        """Let a block run on the stream that is recorded, in its turn: memory and gradients belong to streams."""
        if self._stream is None:
            yield
            return
        usual = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    def _replay(self, inputs):
        if self._graph is None:
            self._record(inputs)
        else:
            self.replayed = True
        for ours, given in zip(self._inputs, inputs, strict=True):
            ours.copy_(given)
        self._graph.replay()
        return self._output.clone()

    def _record(self, inputs):
        self._inputs = [tensor.clone() for tensor in inputs]
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._output = self.function(*self._inputs)
