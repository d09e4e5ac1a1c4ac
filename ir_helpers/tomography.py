"""The parallel-beam geometry and its projectors from the ASTRA toolbox; the sole importer of ``astra``."""

import functools
import math
import weakref
from dataclasses import dataclass

import numpy as np
import torch

from ir_helpers import joseph


@functools.cache
def _astra():
    """Return ASTRA, loaded by the first scan: operators without one need not wait for it and for what it loads of SciPy."""
    import astra
    import astra.experimental

    return astra


@dataclass(frozen=True)
class ParallelBeam:
    """A parallel-beam scan of a square of side 1; lengths inside ASTRA are in pixels, so A carries a factor 1/N."""

    image_size: int
    num_angles: int
    angle_offset: float = 0.0
    axis_shift: float = 0.0

    @property
    def num_detectors(self):
        return math.ceil(math.sqrt(2) * self.image_size)

    @property
    def angles(self):
        """View angles in radians: uniform on [0, π), plus the offset."""
        return np.linspace(0, np.pi, self.num_angles, endpoint=False) + self.angle_offset

    @property
    def image_shape(self):
        return 1, self.image_size, self.image_size

    @property
    def data_shape(self):
        return 1, self.num_angles, self.num_detectors

    @property
    def expected_nonzeros(self):
        """About 1.8 nonzeros for each pixel and view (measured at 256², 143 views)."""
        return int(1.8 * self.image_size**2 * self.num_angles)

    def projector(self):
        """Return the id of a new ASTRA CPU projector ("linear", after Joseph); the caller deletes it."""
        astra = _astra()
        volume = astra.create_vol_geom(self.image_size, self.image_size)
        return astra.create_projector("linear", self._astra_geometry(), volume)

    def matrix(self):
        """Return A as a SciPy CSR matrix in float32."""
        astra, projector = _astra(), self.projector()
        matrix_id = astra.projector.matrix(projector)
        try:
            csr = astra.matrix.get(matrix_id)
        finally:
            astra.matrix.delete(matrix_id)
            astra.projector.delete(projector)
        csr.data = (csr.data / self.image_size).astype(np.float32)
        return csr

    def _astra_geometry(self):
        astra = _astra()
        geometry = astra.create_proj_geom("parallel", 1.0, self.num_detectors, self.angles)
        return astra.geom_postalignment(geometry, self.axis_shift) if self.axis_shift else geometry


class AstraBackend:
    """A x with nothing stored: ASTRA's projector in a loop over slices on the CPU, the same in torch on a GPU."""

    dtype = torch.float32

    def __init__(self, geometry, device="cpu"):
        self.geometry = geometry
        self.device = torch.empty(0, device=device).device  # with its index, as tensors carry it
        astra, projector = _astra(), geometry.projector()
        self._slice = astra.OpTomo(projector)
        weakref.finalize(self, astra.projector.delete, projector)

    def forward(self, u):
        return self._apply(u, self.geometry.image_shape, self._slice.FP, joseph.project)

    def adjoint(self, v):
        return self._apply(v, self.geometry.data_shape, self._slice.BP, joseph.back_project)

    def _apply(self, rows, shape, one_slice, in_torch):
        given = rows.detach().reshape(-1, *shape[1:])
        if self.device.type == "cpu":
            slices = [one_slice(np.ascontiguousarray(each)) for each in given.numpy()]
            result = torch.from_numpy(np.stack(slices))
        else:
            result = in_torch(self.geometry, given)
        return result.reshape(len(rows), -1) / self.geometry.image_size

    def matrix(self):
        raise ValueError('this operator stores no matrix: make it with backend="matrix"')

    def to(self, device_or_dtype):
        if isinstance(device_or_dtype, torch.dtype):
            if device_or_dtype == self.dtype:
                return self
            raise TypeError(
                f'ASTRA works in float32 only, got {device_or_dtype}: make the operator with backend="matrix"'
            )
        moved = AstraBackend(self.geometry, device_or_dtype)
        return self if moved.device == self.device else moved

    def __repr__(self):
        return "ASTRA, matrix-free"


class CudaStack:
    """ASTRA's own CUDA projectors on a stack of slices in GPU memory: what the book's operator is measured against.

    The stack is a volume whose slices see parallel rays of their own row of a flat detector. ASTRA's back-projection is only
    close to the adjoint of its projection, so nothing is trained with it.
    """

    def __init__(self, geometry, slices, gpu=0):
        self.geometry = geometry
        astra = _astra()
        astra.set_gpu_index(gpu)
        size, channels = geometry.image_size, geometry.num_detectors
        # In a volume rows go up, in a slice down: that turns the views the other way round.
        scan = astra.create_proj_geom("parallel3d", 1.0, 1.0, slices, channels, -geometry.angles)
        self._id = astra.create_projector("cuda3d", scan, astra.create_vol_geom(size, size, slices))
        weakref.finalize(self, astra.projector3d.delete, self._id)

    def forward(self, u):
        """Return the data (B, angles · detectors) of flat images (B, N²)."""
        size = self.geometry.image_size
        views = u.new_empty(len(u), *self.geometry.data_shape[1:])
        _astra().experimental.direct_FP3D(self._id, u.reshape(-1, size, size), views)
        return views.flatten(1) / size

    def adjoint(self, v):
        """Return the back-projection (B, N²) of flat data, about the adjoint."""
        size = self.geometry.image_size
        images = v.new_empty(len(v), size, size)
        _astra().experimental.direct_BP3D(self._id, images, v.reshape(-1, *self.geometry.data_shape[1:]))
        return images.flatten(1) / size
