"""fedcredit: privacy-preserving joint credit modelling."""

__version__ = "0.1.0"
