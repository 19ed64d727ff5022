# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.export.directory import export_model as export_model
