"""Served models: deployed under a name and a version, scored for accessing institutions."""
