"""Glyphs of fonts as images: `data.path: fonts:FOLDER`. Labels are characters, groups are fonts."""
