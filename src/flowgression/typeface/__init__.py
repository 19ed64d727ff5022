"""Font files from pictures of letters: cutting and placing them, outlines, spacing, TrueType."""
