"""Batch normalisation, alone and with a ReLU after it."""

from __future__ import annotations

from torch import Tensor, nn

from spectrum.layers.acceleration import normalize


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d``, executed in fewer passes over memory where that is possible."""

    relu = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (N, C, H, W)."""
        return normalize(self, x, self.relu)


class BatchNormReLU(BatchNorm2d):
    """Batch normalisation and the ReLU after it: ``relu(batch_norm(x))``.

    Its arguments and its state dict are those of ``torch.nn.BatchNorm2d``. A function that replaces
    normalisation layers, such as ``torch.nn.SyncBatchNorm.convert_sync_batchnorm``, must put a
    ReLU after each layer whose ``relu`` is True.
    """

    relu = True
