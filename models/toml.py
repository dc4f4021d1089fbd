"""`tomllib`, which Python 3.10 does not have: there `tomli`, the package it was made of.

Owns: that choice, for every reader of TOML; ruff refuses either name elsewhere (pyproject.toml).
The runtime reads none, and a self-contained one has Python 3.11.
"""
# ruff: noqa: TID251

import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["tomllib"]
