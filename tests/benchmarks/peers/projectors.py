"""One interface to the projectors of seven packages: a batch of images to a batch of sinograms, and back.

A peer gets tensors on its device, images (B, 1, N, N) and sinograms (B, 1, angles, detectors), and returns such. Where a
package works on NumPy arrays of one slice, the loop and the copies are part of its price, as they are for a reader. All are set
to the geometry of ``operators.parallel_beam``; ``scale`` is then measured, not assumed (see ``projection``).
"""

import math
from importlib import import_module

import numpy as np
import torch

from ir_helpers import operators, tomography
from peers.installed import Unavailable, load

__all__ = ["PROJECTORS"]


class Book:
    """Ours: ``operators.parallel_beam``."""

    model, autograd, batched = "Joseph", True, True

    def __init__(self, size, angles, batch, device, backend):
        self.A = operators.parallel_beam(size, angles, backend=backend).to(device)
        self.forward, self.adjoint = self.A, self.A.T


class SliceLoop:
    """A package that works on NumPy arrays of one slice: subclasses give ``one_forward`` and ``one_adjoint``."""

    autograd, batched = False, False

    def forward(self, x):
        return self._loop(self.one_forward, x)

    def adjoint(self, y):
        return self._loop(self.one_adjoint, y)

    def _loop(self, one, batch):
        results = [
            np.asarray(one(np.ascontiguousarray(each)), dtype=np.float32)
            for each in batch[:, 0].cpu().numpy()
        ]
        return torch.from_numpy(np.stack(results))[:, None].to(batch.device)


class AstraLoop(SliceLoop):
    """ASTRA's CPU projector, one slice at a time."""

    model = "Joseph"

    def __init__(self, size, angles, batch, device):
        self._projector = import_module("astra").OpTomo(tomography.ParallelBeam(size, angles).projector())
        self.one_forward, self.one_adjoint = self._projector.FP, self._projector.BP


class AstraStack:
    """ASTRA's CUDA projectors on the whole batch, in GPU memory."""

    model, autograd, batched = "Joseph; pixel-driven back-projection", False, True

    def __init__(self, size, angles, batch, device):
        if not device.startswith("cuda"):
            raise Unavailable("needs a GPU")
        self.size, self.angles = size, angles
        index = torch.device(device).index or 0
        self._stack = tomography.CudaStack(tomography.ParallelBeam(size, angles), batch, index)

    def forward(self, x):
        return self._stack.forward(x.flatten(1)).reshape(len(x), 1, self.angles, -1)

    def adjoint(self, y):
        return self._stack.adjoint(y.flatten(1)).reshape(len(y), 1, self.size, self.size)


class DeepInverse:
    """deepinv's ``physics.Tomography``; its adjoint by back-propagation, its default, or interpolated, which is cheaper."""

    autograd, batched = True, True

    def __init__(self, size, angles, batch, device, exact):
        deepinv = load("deepinv")
        self.model = "rotation, bilinear" if exact else "rotation, bilinear; interpolated back-projection"
        degrees = torch.arange(angles, device=device) * (180 / angles)
        self._physics = deepinv.physics.Tomography(
            angles=degrees,
            img_width=size,
            circle=False,
            adjoint_via_backprop=exact,
            normalize=False,
            device=device,
        )

    def forward(self, x):
        return self._physics.A(x).transpose(-1, -2)

    def adjoint(self, y):
        return self._physics.A_adjoint(y.transpose(-1, -2)).detach()


class Odl(SliceLoop):
    """ODL's ``RayTransform``, with its PyTorch wrapper for the gradient; its back end ASTRA, or scikit-image."""

    autograd = True

    def __init__(self, size, angles, batch, device, impl):
        odl = load("odl")
        wrapper = load("odl.contrib.torch")
        detectors = math.ceil(math.sqrt(2) * size)
        half = detectors / size / 2
        space = odl.uniform_discr([-0.5, -0.5], [0.5, 0.5], [size, size], dtype="float32")
        # Views are the midpoints of their cells: half a cell back, the first one is at 0.
        views = odl.uniform_partition(-np.pi / angles / 2, np.pi - np.pi / angles / 2, angles)
        scan = odl.applications.tomo.Parallel2dGeometry(views, odl.uniform_partition(-half, half, detectors))
        if impl == "astra_cpu" and device.startswith("cuda"):
            impl = "astra_cuda"
        self.model = {"skimage": "rotation, bilinear", "astra_cpu": "Joseph"}.get(
            impl, "Joseph; pixel-driven back-projection"
        )
        self._ray = odl.applications.tomo.RayTransform(space, scan, impl=impl)
        # The adjoint in ODL's weighted spaces is Aᵀ times the ratio of their cells: undone, to compare matrices.
        self._weight = space.cell_volume / self._ray.range.cell_volume
        self._module = wrapper.OperatorModule(self._ray)

    def one_forward(self, image):
        # ODL's first axis is x, to the right; an image's first is down.
        return self._ray(self._ray.domain.element(np.ascontiguousarray(np.rot90(image, -1)))).asarray()

    def one_adjoint(self, sinogram):
        return self._weight * np.rot90(self._ray.adjoint(self._ray.range.element(sinogram)).asarray())

    def differentiable(self, x):
        """Return A x with a gradient, by ODL's wrapper of its operators."""
        turned = torch.rot90(x[:, 0], -1, (1, 2)).contiguous()
        return self._module(turned)[:, None]


class PyLops(SliceLoop):
    """PyLops' ``CT2D`` on ASTRA, with the projector that matches ours."""

    def __init__(self, size, angles, batch, device):
        load("pylops")
        on_gpu = device.startswith("cuda")
        detectors = math.ceil(math.sqrt(2) * size)
        self.model = "Joseph; pixel-driven back-projection" if on_gpu else "Joseph"
        # On a GPU it works on a volume, whose rows go up and not down: that turns the views the other way round.
        views = np.arange(angles) * (np.pi / angles) * (-1 if on_gpu else 1)
        self._op = import_module("pylops.medical").CT2D(
            (size, size), 1.0, detectors, views,
            engine="cuda" if on_gpu else "cpu", projector_type="cuda" if on_gpu else "linear",
        )  # fmt: skip

    def one_forward(self, image):
        return self._op.matvec(image.ravel()).reshape(self._op.dimsd)

    def one_adjoint(self, sinogram):
        return self._op.rmatvec(sinogram.ravel()).reshape(self._op.dims)


class ScikitImage(SliceLoop):
    """scikit-image's ``radon`` and, as its adjoint, ``iradon`` without a filter."""

    model = "rotation, bilinear; interpolated back-projection"

    def __init__(self, size, angles, batch, device):
        self._transform, self._size = load("skimage.transform"), size
        self._degrees = np.arange(angles) * (180 / angles)

    def one_forward(self, image):
        return self._transform.radon(image, theta=self._degrees, circle=False).T

    def one_adjoint(self, sinogram):
        image = self._transform.iradon(
            sinogram.T, theta=self._degrees, output_size=self._size, filter_name=None, circle=False
        )
        return image * (2 * len(self._degrees) / np.pi)  # iradon weighs for inversion: undone


PROJECTORS = {
    "ir_helpers, matrix": lambda *setting: Book(*setting, backend="matrix"),
    "ir_helpers, matrix-free": lambda *setting: Book(*setting, backend="astra"),
    "ASTRA, loop on the CPU": AstraLoop,
    "ASTRA, batch on the GPU": AstraStack,
    "deepinv": lambda *setting: DeepInverse(*setting, exact=True),
    "deepinv, interpolated adjoint": lambda *setting: DeepInverse(*setting, exact=False),
    "ODL on ASTRA": lambda *setting: Odl(*setting, impl="astra_cpu"),
    "ODL on scikit-image": lambda *setting: Odl(*setting, impl="skimage"),
    "PyLops": PyLops,
    "scikit-image": ScikitImage,
}
