"""Run a training step on a GPU without waiting for Python: record its kernels once, then replay them."""

from contextlib import contextmanager

import torch

__all__ = ["Replayed"]


class Replayed:
    """A function of tensors that is recorded as a CUDA graph after its first calls and replayed from then on.

    A small network needs hundreds of kernels of a few microseconds each, and Python takes longer to launch one than the GPU
    to run it. A graph launches them all at once: the same kernels on the same memory, so the same results. Inputs of another
    shape, such as the last batch of an epoch, have a graph of their own. On a CPU the function is simply called.

    Parameters
    ----------
    function : callable
        From tensors to one tensor. Whatever else it changes must be changed in place, and on the GPU alone: it may not read
        a number back, nor depend on numbers that Python computes anew in each call.
    device : torch.device
        Of all its tensors.
    before : int
        Calls that run as usual first, one of each shape at least: libraries choose their kernels, optimisers make their state.
    """

    def __init__(self, function, device, *, before=3):
        self.function, self.device, self.before = function, device, before
        # Not the default stream, which cannot be recorded.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._graphs, self._seen, self._calls = {}, set(), 0
        self._pool = None  # of memory, which all graphs use in turn
        self.replayed = False  # whether the last call ran no Python

    def __call__(self, *inputs):
        shapes = tuple(tensor.shape for tensor in inputs)
        self.replayed = shapes in self._graphs
        if self._stream is None or self._calls < self.before or shapes not in self._seen:
            self._calls += 1
            self._seen.add(shapes)
            with self.aside():
                return self.function(*inputs)
        with torch.cuda.device(self.device):  # graphs belong to the current device
            if not self.replayed:
                self._graphs[shapes] = self._record(inputs)
            return self._replay(inputs, *self._graphs[shapes])

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

    def _record(self, inputs):
        inputs = [tensor.clone() for tensor in inputs]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self._pool, self._stream):
            output = self.function(*inputs)
        self._pool = graph.pool()
        return graph, inputs, output

    @staticmethod
    def _replay(given, graph, inputs, output):
        for ours, new in zip(inputs, given, strict=True):
            ours.copy_(new)
        graph.replay()
        return output.clone()
