"""Protocols between parties: one file each, with its diagram, leakage table and roles."""
