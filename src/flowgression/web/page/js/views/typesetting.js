// Drawn characters as a line of text.

const SPACE = 0.32, GAP = 0.07; // of the square's side

/** [first, last + 1] of the columns that have ink. */
export function extent(picture, size) {
  let first = size, last = 0;
  picture.forEach((value, at) => {
    if (value < -0.2) return;
    first = Math.min(first, at % size);
    last = Math.max(last, (at % size) + 1);
  });
  return first < last ? [first, last] : [0, Math.round(SPACE * size)];
}

/** Writes `text` on the canvas in the drawn characters; others leave a space. */
export function sentence(canvas, text, names, drawn, size) {
  const known = [...text].map((character) => {
    const picture = drawn.get(names.indexOf(character));
    return picture ? { picture, extent: extent(picture, size) } : null;
  });
  const gap = Math.max(1, Math.round(GAP * size)), space = Math.round(SPACE * size);
  const width = known.reduce((sum, each) => sum + (each ? each.extent[1] - each.extent[0] + gap : space), gap);
  canvas.width = Math.max(width, 1);
  canvas.height = size;
  canvas.setAttribute("aria-label", `${text}, in your letters`);
  const context = canvas.getContext("2d");
  let left = gap;
  for (const each of known) {
    if (!each) {
      left += space;
      continue;
    }
    const [first, last] = each.extent;
    context.putImageData(inked(each.picture, size, first, last), left, 0);
    left += last - first + gap;
  }
}

/** Columns first..last of a picture: ink in the page's colour, as opaque as it is dark. */
function inked(picture, size, first, last) {
  const image = new ImageData(last - first, size);
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const rgb = [1, 3, 5].map((at) => parseInt(ink.slice(at, at + 2), 16));
  for (let row = 0; row < size; row++) {
    for (let column = first; column < last; column++) {
      const opaque = 255 * Math.min(Math.max((picture[row * size + column] + 1) / 2, 0), 1);
      image.data.set([...rgb, opaque], 4 * (row * (last - first) + column - first));
    }
  }
  return image;
}
