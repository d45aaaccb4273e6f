"""Networks on the dial, one file a family, and the configuration that names them."""

from spectrum.networks.config import NETWORKS, NetworkConfig, build
from spectrum.networks.xception import PRESETS, Xception, xception

__all__ = ["NETWORKS", "PRESETS", "NetworkConfig", "Xception", "build", "xception"]
