"""Other views of the same images, for training on few; public as `datasets.flip_and_shift`."""

import torch

from ir_helpers.checks import check_batch

__all__ = ["flip_and_shift"]


def flip_and_shift(images, generator, *, shift=2):
    """Mirror half of the images, chosen by chance, left to right, and move each by a few whole pixels.

    Steps down and to the right are uniform on −shift, ..., shift, and each image has its own. Pixels that would come from
    outside repeat the nearest edge. Nothing is interpolated, so no detail is lost. To use it: ``training.fit(...,
    augment=datasets.flip_and_shift)``.

    Parameters
    ----------
    images : torch.Tensor
        (B, C, H, W), on any device.
    generator : torch.Generator
        Of the CPU: the same views on every machine.
    shift : int
        Largest step in pixels, below H and W; 0 only mirrors.

    Returns
    -------
    torch.Tensor
        New images, of the shape, dtype and device of ``images``.

    Raises
    ------
    ValueError
        If ``images`` has another number of dimensions, or ``shift`` is not a whole number from 0 to below H and W.
    TypeError
        If ``images`` is no floating-point tensor, or ``generator`` no ``torch.Generator``.
    """
    check_batch("images", images)
    if images.ndim != 4:
        raise ValueError(f"images must have shape (B, C, H, W), got {tuple(images.shape)}")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    count, _, height, width = images.shape
    if isinstance(shift, bool) or not isinstance(shift, int) or not 0 <= shift < min(height, width):
        raise ValueError(f"shift must be a whole number from 0 to {min(height, width) - 1}, got {shift!r}")
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    down, right = torch.randint(-shift, shift + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    columns = torch.where(mirrored, width - 1 - columns, columns)
    image, rows, columns = (
        index.to(images.device)
        for index in (torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])
    )
    # Indices on both sides of the channels' slice put the channels last.
    return images[image, :, rows, columns].permute(0, 3, 1, 2).contiguous()
