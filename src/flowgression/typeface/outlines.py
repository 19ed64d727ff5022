"""From a grey picture of a glyph to smooth closed outlines.

The picture is enlarged by a smooth filter and cut at half of the ink (contourpy), points that say little are left out,
and the rest are the control points of quadratic B-splines, as TrueType has them; corners stay corners.

H = W: size of a picture in pixels; n points of an outline.
"""

from typing import NamedTuple

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ENLARGED = 8
SMOOTHING = 0.45  # standard deviation in pixels of the picture: takes off what one pixel more or less makes
TOLERANCE = 0.12  # pixels that an outline may move when points are left out
CORNER = 50.0  # degrees by which an outline turns at a corner
REACH = 1.2  # pixels on either side of a point over which its turn is measured
LEAST_AREA = 1.5  # square pixels; smaller outlines are specks


class Outline(NamedTuple):
    """A closed outline, counter-clockwise around ink and clockwise around holes in a frame whose y points down.

    points: float [n, 2], x and y in pixels of the picture, from its upper left corner.
    corners: bool [n]: the outline passes through these points; of the others they are control points.
    """

    points: NDArray[np.float64]
    corners: NDArray[np.bool_]


def trace(glyph: NDArray[np.uint8]) -> list[Outline]:
    """uint8 [H, W], ink 255 -> its outlines."""
    large = enlarge(glyph)
    lines = contourpy.contour_generator(z=large, name="serial").lines(0.5)
    outlines = []
    for line in lines:
        points = (np.asarray(line)[:-1] + 0.5) / ENLARGED - 1  # the picture was padded by a pixel
        if len(points) >= 8 and abs(area(points)) >= LEAST_AREA:
            outlines.append(simplified(points))
    return outlines


def enlarge(glyph: NDArray[np.uint8]) -> NDArray[np.float64]:
    """uint8 [H, W] -> float [8 (H + 2), 8 (W + 2)] in [0, 1], smooth, with a margin of a pixel without ink."""
    ink = np.pad(glyph.astype(np.float64) / 255, 1)
    large = np.clip(ndimage.zoom(ink, ENLARGED, order=3, mode="grid-constant", grid_mode=True), 0, 1)
    return ndimage.gaussian_filter(large, SMOOTHING * ENLARGED, mode="constant")


def area(points: NDArray[np.float64]) -> float:
    """The signed area within a closed polygon [n, 2]."""
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplified(points: NDArray[np.float64]) -> Outline:
    """A dense closed line [m, 2] as few points: corners, and between them what Douglas and Peucker keep."""
    corners = find_corners(points)
    anchors = corners if len(corners) >= 2 else np.array([0, len(points) // 2])
    kept: list[int] = []
    for start, stop in zip(anchors, [*anchors[1:], anchors[0] + len(points)], strict=True):
        run = np.arange(start, stop + 1) % len(points)
        kept += run[_douglas_peucker(points[run])[:-1]].tolist()
    return Outline(points[kept], np.isin(kept, corners))


def find_corners(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """The indices where a dense closed line turns by CORNER degrees within REACH on either side, of each the sharpest
    one."""
    steps = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1)
    reach = max(2, round(REACH / max(steps.mean(), 1e-9)))
    if len(points) < 4 * reach:
        return np.array([], dtype=np.int64)
    before, after = points - np.roll(points, reach, axis=0), np.roll(points, -reach, axis=0) - points
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turn = np.degrees(np.abs(np.arctan2(cross, (before * after).sum(1))))
    peaks = turn >= ndimage.maximum_filter1d(turn, 2 * reach + 1, mode="wrap") - 1e-9
    found = np.flatnonzero(peaks & (turn > CORNER))
    return found[np.diff(found, prepend=-reach - 1) > 1]  # of equal neighbours the first


def _douglas_peucker(points: NDArray[np.float64]) -> list[int]:
    """The indices of an open line [m, 2] that keep it within TOLERANCE; the first and the last are among them."""
    kept, stack = {0, len(points) - 1}, [(0, len(points) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        chord = points[last] - points[first]
        inner = points[first + 1 : last] - points[first]
        length = float(np.linalg.norm(chord))
        away = np.abs(inner @ np.array([-chord[1], chord[0]])) / length if length else np.linalg.norm(inner, axis=1)
        far = int(away.argmax())
        if away[far] > TOLERANCE:
            middle = first + 1 + far
            kept.add(middle)
            stack += [(first, middle), (middle, last)]
    return sorted(kept)
