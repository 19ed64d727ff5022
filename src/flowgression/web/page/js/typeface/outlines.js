// From a picture of a glyph to smooth closed outlines, as typeface/outlines.py makes them: the picture is enlarged and
// blurred, cut at half of the ink, and points that say little are left out. Corners stay corners; of the other points,
// quadratic B-splines are made.

const ENLARGED = 4, SMOOTHING = 0.4; // times; deviation in pixels of the picture
const TOLERANCE = 0.12, CORNER = 50, REACH = 1.2, LEAST_AREA = 1.5; // pixels, degrees, pixels, square pixels

// The pieces of an outline in a cell by its ink (8 upper left, 4 upper right, 2 lower right, 1 lower left): from side to
// side (0 upper, 1 right, 2 lower, 3 left), ink on the left.
const PIECES = [[], [[2, 3]], [[1, 2]], [[1, 3]], [[0, 1]], [[2, 3], [0, 1]], [[0, 2]], [[0, 3]],
  [[3, 0]], [[2, 0]], [[3, 0], [1, 2]], [[1, 0]], [[3, 1]], [[2, 1]], [[3, 2]], []];

/**
 * @param picture size * size numbers in [-1, 1], ink 1
 * @return outlines, [{points: [[x, y]], corners: [boolean]}] in pixels from the upper left corner, y down;
 *   counter-clockwise to the eye around ink, clockwise around holes
 */
export function trace(picture, size) {
  return contours(...enlarged(picture, size))
    .map((line) => line.map(([x, y]) => [(x + 0.5) / ENLARGED - 1, (y + 0.5) / ENLARGED - 1]))
    .filter((line) => line.length >= 8 && Math.abs(area(line)) >= LEAST_AREA)
    .map(simplified);
}

/** [values in [0, 1], their side]: with a margin of a pixel, bilinear and then blurred. */
function enlarged(picture, size) {
  const side = (size + 2) * ENLARGED;
  const ink = (row, column) => row < 0 || column < 0 || row >= size || column >= size ? 0
    : Math.min(Math.max((picture[row * size + column] + 1) / 2, 0), 1);
  const large = new Float64Array(side * side);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const y = (row + 0.5) / ENLARGED - 1.5, x = (column + 0.5) / ENLARGED - 1.5;
      const top = Math.floor(y), left = Math.floor(x), v = y - top, u = x - left;
      large[row * side + column] = (1 - v) * ((1 - u) * ink(top, left) + u * ink(top, left + 1))
        + v * ((1 - u) * ink(top + 1, left) + u * ink(top + 1, left + 1));
    }
  }
  const deviation = SMOOTHING * ENLARGED, reach = Math.ceil(3 * deviation), kernel = [];
  for (let k = -reach; k <= reach; k++) kernel.push(Math.exp(-(k * k) / (2 * deviation * deviation)));
  const total = kernel.reduce((sum, each) => sum + each, 0);
  const blurred = (from, stride, across) => from.map((_, at) => {
    const place = Math.floor(at / stride) % side;
    let sum = 0;
    for (let k = -reach; k <= reach; k++) if (place + k >= 0 && place + k < side) sum += kernel[k + reach] * from[at + k * across];
    return sum / total;
  });
  return [blurred(blurred(large, 1, 1), side, side), side];
}

/** The closed lines at 0.5, by marching squares. */
function contours(values, side) {
  const next = new Map(), places = new Map();
  // A point lies on the side of a cell between two neighbours; it is known by the first one and the direction.
  const point = (row, column, edge) => {
    const [r, c, down] = [[row, column, 0], [row, column + 1, 1], [row + 1, column, 0], [row, column, 1]][edge];
    const key = 2 * (r * side + c) + down;
    if (!places.has(key)) {
      const a = values[r * side + c], b = values[(r + down) * side + c + 1 - down], part = (0.5 - a) / (b - a);
      places.set(key, down ? [c, r + part] : [c + part, r]);
    }
    return key;
  };
  for (let row = 0; row + 1 < side; row++) {
    for (let column = 0; column + 1 < side; column++) {
      const at = row * side + column, inked = (index, worth) => (values[index] >= 0.5 ? worth : 0);
      const kind = inked(at, 8) + inked(at + 1, 4) + inked(at + side + 1, 2) + inked(at + side, 1);
      for (const [from, to] of PIECES[kind]) next.set(point(row, column, from), point(row, column, to));
    }
  }
  const lines = [];
  while (next.size) {
    const [start] = next.keys(), line = [];
    for (let key = start; next.has(key);) {
      line.push(places.get(key));
      const following = next.get(key);
      next.delete(key);
      key = following;
    }
    lines.push(line);
  }
  return lines;
}

/** The signed area within a closed line; above 0 where it runs clockwise to the eye. */
export function area(line) {
  return line.reduce((sum, [x, y], k) => {
    const [nextX, nextY] = line[(k + 1) % line.length];
    return sum + (x * nextY - nextX * y) / 2;
  }, 0);
}

/** A dense closed line as few points: corners, and between them what Douglas and Peucker keep. */
function simplified(line) {
  const corners = findCorners(line), count = line.length;
  const anchors = corners.length >= 2 ? corners : [0, Math.floor(count / 2)];
  const kept = [];
  anchors.forEach((start, k) => {
    const stop = k + 1 < anchors.length ? anchors[k + 1] : anchors[0] + count;
    const run = Array.from({ length: stop - start + 1 }, (_, index) => (start + index) % count);
    for (const index of douglasPeucker(run.map((at) => line[at])).slice(0, -1)) kept.push(run[index]);
  });
  return { points: kept.map((at) => line[at]), corners: kept.map((at) => corners.includes(at)) };
}

/** Where the line turns by CORNER degrees within REACH on either side, of each turn the sharpest point. */
function findCorners(line) {
  const count = line.length, at = (k) => line[(k + count) % count];
  const length = line.reduce((sum, [x, y], k) => sum + Math.hypot(x - at(k - 1)[0], y - at(k - 1)[1]), 0);
  const reach = Math.max(2, Math.round((REACH * count) / Math.max(length, 1e-9)));
  if (count < 4 * reach) return [];
  const turns = line.map(([x, y], k) => {
    const [a, b] = [x - at(k - reach)[0], y - at(k - reach)[1]], [c, d] = [at(k + reach)[0] - x, at(k + reach)[1] - y];
    return (Math.abs(Math.atan2(a * d - b * c, a * c + b * d)) * 180) / Math.PI;
  });
  return turns.flatMap((turn, k) => {
    if (turn <= CORNER) return [];
    for (let near = 1; near <= reach; near++) {
      if (turns[(k + near) % count] > turn || turns[(k - near + count) % count] >= turn) return [];
    }
    return [k];
  });
}

/** The places in an open line that keep it within TOLERANCE, with the first and the last. */
function douglasPeucker(line) {
  const kept = new Set([0, line.length - 1]), stack = [[0, line.length - 1]];
  while (stack.length) {
    const [first, last] = stack.pop(), [x, y] = line[first], dx = line[last][0] - x, dy = line[last][1] - y;
    const length = Math.hypot(dx, dy);
    let far = 0, middle = -1;
    for (let k = first + 1; k < last; k++) {
      const away = length ? Math.abs((line[k][1] - y) * dx - (line[k][0] - x) * dy) / length : Math.hypot(line[k][0] - x, line[k][1] - y);
      if (away > far) [far, middle] = [away, k];
    }
    if (far > TOLERANCE) {
      kept.add(middle);
      stack.push([first, middle], [middle, last]);
    }
  }
  return [...kept].sort((a, b) => a - b);
}

/** Walks an outline: `to(x, y)` begins, `line(x, y)` and `curve(cx, cy, x, y)` go on, each point moved by `place`. */
export function walk({ points, corners }, { move, line, curve, place }) {
  const count = points.length, middle = ([a, b], [c, d]) => [(a + c) / 2, (b + d) / 2];
  const first = Math.max(corners.indexOf(true), 0), at = (k) => points[(first + k) % count], corner = (k) => corners[(first + k) % count];
  const start = corner(0) ? at(0) : middle(at(count - 1), at(0));
  move(...place(start));
  for (let k = corner(0) ? 1 : 0; k < count + (corner(0) ? 1 : 0); k++) {
    if (corner(k)) {
      line(...place(at(k))); // the point before it was a corner, or the curve to it has been drawn
      continue;
    }
    const end = corner(k + 1) ? at(k + 1) : middle(at(k), at(k + 1));
    curve(...place(at(k)), ...place(end));
    if (corner(k + 1)) k++;
  }
}
