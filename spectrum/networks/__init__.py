"""Networks on the dial, one file a family, and the configuration that names them."""

from spectrum.networks.config import NETWORKS, NetworkConfig, build
from spectrum.networks.xception import MAX_WIDTH, PRESETS, Xception, xception

__all__ = ["MAX_WIDTH", "NETWORKS", "PRESETS", "NetworkConfig", "Xception", "build", "xception"]
