"""Measuring generated images: features, distances between sets of images, reports."""
