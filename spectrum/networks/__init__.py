"""Networks on the dial, one file a family, and the configuration that names them."""

from spectrum.networks.checks import MAX_WIDTH
from spectrum.networks.config import NETWORKS, NetworkConfig, build
from spectrum.networks.xception import PRESETS, Xception, xception

__all__ = ["MAX_WIDTH", "NETWORKS", "PRESETS", "NetworkConfig", "Xception", "build", "xception"]
