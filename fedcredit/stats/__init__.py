"""Plain mathematics on arrays: binning, trees, gradients and metrics. No parties, no frames."""
