"""The peak of memory within a ``with`` block: resident memory on a CPU, the driver's count on a GPU."""

import ctypes
import gc
import threading
from pathlib import Path

import torch

__all__ = ["Peak"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """The largest use of memory within the block beyond that at its begin, in ``mebibytes``; NaN where it cannot be told.

    On a CPU it is Linux's own mark of the resident memory, set back at the begin: it sees what every library allocates, but
    memory that the process already held and uses again does not count, so memory is given back first. On a GPU a thread asks
    the driver, since ASTRA's memory is not PyTorch's.
    """

    def __init__(self, device):
        self.device, self.mebibytes = str(device), float("nan")

    def __enter__(self):
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            self._begin = self._least = torch.cuda.mem_get_info()[0]
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._watch)
            self._thread.start()
        else:
            self._begin = _mark()
        return self

    def _watch(self):
        while not self._done.wait(0.0005):
            self._least = min(self._least, torch.cuda.mem_get_info()[0])

    def __exit__(self, *_):
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
            self._least = min(self._least, torch.cuda.mem_get_info()[0])
            self._done.set()
            self._thread.join()
            self.mebibytes = (self._begin - self._least) / 2**20
        elif self._begin is not None:
            self.mebibytes = (_kibibytes("VmHWM") - self._begin) / 2**10


def _mark():
    """Set the peak back to what is resident now, and return that in KiB; None where Linux does not let us."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        _CLEAR.write_text("5")
        resident, peak = _kibibytes("VmRSS"), _kibibytes("VmHWM")
    except (OSError, AttributeError, ValueError):
        return None
    return resident if peak - resident < 2**12 else None  # a peak that was not set back says nothing


def _kibibytes(name):
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"no {name} in {_STATUS}")
