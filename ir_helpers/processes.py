"""Several processes that train one network together, each on its part of every batch; a single process is a group of one.

``torchrun --nproc-per-node=K`` starts them. They hold the same network and average their gradients.
"""

import os

import torch
from torch import distributed

__all__ = ["average", "join", "leave", "part", "rank", "share", "size", "wait"]


def join(device):
    """Join the group that ``torchrun`` began, if there is one; return the device of this process.

    Parameters
    ----------
    device : str
        ``"cuda"`` gives each process of a machine its own GPU (and NCCL); anything else is kept (and Gloo).

    Raises
    ------
    ValueError
        If the machine has fewer GPUs than processes.
    """
    if "RANK" not in os.environ or _is_on():
        return device
    own = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        if own >= torch.cuda.device_count():
            raise ValueError(
                f"--nproc-per-node must be at most {torch.cuda.device_count()}, the GPUs of this machine"
            )
        device = f"cuda:{own}"
        torch.cuda.set_device(own)
    on_gpu = device.startswith("cuda")
    own_gpu = torch.device(device) if on_gpu else None  # or NCCL guesses it at the first barrier
    distributed.init_process_group("nccl" if on_gpu else "gloo", device_id=own_gpu)
    return device


def leave():
    """End the group, if there is one."""
    if _is_on():
        distributed.destroy_process_group()


def size():
    """Return the number of processes."""
    return distributed.get_world_size() if _is_on() else 1


def rank():
    """Return the number of this process, from 0; the first writes the files."""
    return distributed.get_rank() if _is_on() else 0


def part(chosen):
    """Return this process's part of the samples of a batch. Parts are equal: up to ``size() − 1`` samples are left out."""
    count = len(chosen) // size()
    return chosen[rank() * count : (rank() + 1) * count]


def average(tensors):
    """Replace each tensor by its mean over the processes, in place: gradients, or means over equal parts of a batch."""
    if size() > 1:
        # All in one message: a network has dozens of small tensors, and each message has a price of its own.
        together = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(together)
        parts = (together / size()).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))


def share(tensors):
    """Replace each tensor by that of the first process, in place."""
    if size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), 0)


def wait():
    """Wait until all processes are here."""
    if size() > 1:
        distributed.barrier()


def _is_on():
    return distributed.is_available() and distributed.is_initialized()
