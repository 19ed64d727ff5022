"""The models. Every family has the same file names: model.py, presets.py, convert.py."""
