"""fedcredit: privacy-preserving joint credit modelling.

Data providers and a credit-service platform train credit models together without showing each
other their data: private set intersection aligns the rows, homomorphic encryption sums gradients,
oblivious transfer moves the rows down the trees.
"""

__version__ = "0.1.0"

from fedcredit import datasets, errors
from fedcredit.models.federation import Federation, simulate
from fedcredit.models.frame import FederatedFrame
from fedcredit.models.gbdt import VerticalGBDTClassifier, VerticalGBDTRegressor
from fedcredit.models.policy import ProviderPolicy

__all__ = [
    "FederatedFrame",
    "Federation",
    "ProviderPolicy",
    "VerticalGBDTClassifier",
    "VerticalGBDTRegressor",
    "__version__",
    "connect",
    "datasets",
    "errors",
    "simulate",
]


def connect(config: str) -> Federation:
    """Connect to real nodes as a platform's configuration file says.

    Parameters
    ----------
    config : str or path
        The platform's TOML file.

    Returns
    -------
    Federation
        Close it, or use it as a context manager, when done.

    Raises
    ------
    ConfigError
        The file or a certificate cannot be used.
    PeerUnavailable
        The hub cannot be reached.
    """
    from fedcredit.node.connect import connect as connect_nodes

    return connect_nodes(config)
