// Drawn characters as a font file, in the browser alone: outlines, widths from their shapes, names. With a server behind
// the page, typeface/build.py makes the font, with kerning.

import { trace, walk } from "./outlines.js";

const UNITS = 1000, BESIDE = 0.075, FOLLOWED = 0.12, BASELINE = 0.74; // of the square's side but for UNITS
const STANDING = "AHIMNTXhikmnrx"; // letters with flat feet

/**
 * @param opentype the library opentype.js
 * @param glyphs [{character, x: size * size numbers in [-1, 1]}]
 * @return ArrayBuffer, an OpenType font with cubic outlines
 */
export function buildFont(opentype, glyphs, size, name) {
  const unit = UNITS / size;
  const shapes = glyphs.map(({ character, x }) => ({ character, ...shape(x, size) })).filter(({ outlines }) => outlines.length);
  if (!shapes.length) throw new Error("none of the pictures shows ink, so there is nothing to make a font of");
  const feet = shapes.filter(({ character }) => STANDING.includes(character)).map(({ bottom }) => bottom).sort((a, b) => a - b);
  const baseline = feet.length ? feet[Math.floor(feet.length / 2)] : BASELINE * size;
  const made = [
    new opentype.Glyph({ name: ".notdef", advanceWidth: 500, path: new opentype.Path() }),
    new opentype.Glyph({ name: "space", unicode: 32, advanceWidth: Math.round(0.26 * UNITS), path: new opentype.Path() }),
    ...shapes.map(({ character, outlines, start, width, left, right }) => {
      const path = new opentype.Path();
      const place = ([x, y]) => [Math.round((x - start + left) * unit), Math.round((baseline - y) * unit)];
      for (const outline of outlines) {
        walk(outline, {
          place,
          move: (...point) => path.moveTo(...point),
          line: (...point) => path.lineTo(...point),
          curve: (...points) => path.quadraticCurveTo(...points),
        });
        path.close();
      }
      const unicode = character.codePointAt(0);
      const named = `uni${unicode.toString(16).toUpperCase().padStart(4, "0")}`;
      return new opentype.Glyph({ name: named, unicode, advanceWidth: Math.round((left + width + right) * unit), path });
    }),
  ];
  const ascender = Math.max(...shapes.map(({ top }) => Math.ceil((baseline - top) * unit)));
  const descender = Math.min(0, ...shapes.map(({ bottom }) => Math.floor((baseline - bottom) * unit)));
  return new opentype.Font({ familyName: name, styleName: "Regular", unitsPerEm: UNITS, ascender, descender, glyphs: made }).toArrayBuffer();
}

/** A glyph's outlines, where its ink is, and the room that it needs on either side; all in pixels. */
function shape(picture, size) {
  const outlines = trace(picture, size), points = outlines.flatMap((outline) => outline.points);
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const start = Math.min(...xs), stop = Math.max(...xs);
  const lefts = [], rights = [];
  for (let row = 0; row < size; row++) {
    const columns = [...Array(size).keys()].filter((column) => picture[row * size + column] > 0);
    lefts.push(columns.length ? Math.max(columns[0] - start, 0) : Infinity);
    rights.push(columns.length ? Math.max(stop - columns.at(-1) - 1, 0) : Infinity);
  }
  return { outlines, start, width: stop - start, top: Math.min(...ys), bottom: Math.max(...ys), left: room(lefts, size), right: room(rights, size) };
}

/** Less the more a shape recedes on this side, as round and slanting letters do. */
function room(distances, size) {
  const rows = [...distances.keys()].filter((row) => Number.isFinite(distances[row]));
  if (!rows.length) return 0.25 * BESIDE * size;
  const inner = distances.slice(rows[0], rows.at(-1) + 1).map((each) => Math.min(each, FOLLOWED * size));
  const deep = inner.reduce((sum, each) => sum + each, 0) / inner.length;
  return Math.max(0.25 * BESIDE * size, BESIDE * size - 0.7 * deep);
}
