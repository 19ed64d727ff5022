// Arrays of numbers as pictures. A canvas has one pixel a number; the style sheet enlarges it.

import { colour, onTheme } from "./theme.js";

const painted = new Map(); // canvas -> how to paint it again when the theme changes
onTheme(() => {
  for (const [canvas, again] of painted) canvas.isConnected ? again() : painted.delete(canvas);
});

function paint(canvas, width, height, pixel) {
  const again = () => {
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const shade = pixel();
    for (let i = 0; i < width * height; i++) {
      const [r, g, b] = shade(i);
      image.data.set([r, g, b, 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  };
  painted.set(canvas, again);
  again();
}

const mixed = (a, b, share) => [0, 1, 2].map((i) => a[i] + (b[i] - a[i]) * share);
const unit = (value) => Math.min(Math.max(value, 0), 1);

/** A picture [C, H, W] in [-1, 1]: one channel in ink on paper, three or more as red, green and blue. */
export function paintPicture(canvas, values, size, channels = 1) {
  const area = size * size;
  paint(canvas, size, size, () => {
    const paper = colour("paper"), ink = colour("ink");
    if (channels < 3) return (i) => mixed(paper, ink, unit((values[i] + 1) / 2));
    return (i) => [0, 1, 2].map((c) => 255 * unit((values[c * area + i] + 1) / 2));
  });
}

/** Signed numbers [height, width]: blue below zero, paper at zero, orange above; `limit` is the largest shade. */
export function paintSigned(canvas, values, width, height, limit) {
  paint(canvas, width, height, () => {
    const paper = colour("paper"), up = colour("up"), down = colour("down");
    return (i) => mixed(paper, values[i] > 0 ? up : down, unit(Math.abs(values[i]) / limit));
  });
}

/** Numbers >= 0 [height, width], from paper to ink at `limit`. */
export function paintAmount(canvas, values, width, height, limit) {
  paint(canvas, width, height, () => {
    const paper = colour("paper"), ink = colour("ink");
    return (i) => mixed(paper, ink, unit(values[i] / limit));
  });
}

/** Nothing yet. */
export function paintBlank(canvas, size) {
  paintAmount(canvas, new Float32Array(size * size), size, size, 1);
}

/** The largest magnitude, at least `least`. */
export function magnitude(values, least = 1e-9) {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), least);
}
