"""Federations, federated frames, estimators and their reports."""
