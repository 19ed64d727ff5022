// Drawn characters to keep: a sheet as PNG or SVG, and a font file.

import { make } from "../dom.js";
import { trace, walk } from "../typeface/outlines.js";

const COLUMNS = 10;

/** Hands the visitor a file. */
function keep(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000); // the browser may read it after this turn
}

/** A sheet of all characters, black on white, four times as large as they were drawn. */
export async function saveSheetPng(names, drawn, size, factor = 4) {
  const side = size * factor, rows = Math.ceil(names.length / COLUMNS);
  const canvas = new OffscreenCanvas(COLUMNS * side, rows * side), context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const [id, picture] of drawn) {
    const image = new ImageData(size, size);
    picture.forEach((value, at) => {
      const grey = 255 * (1 - Math.min(Math.max((value + 1) / 2, 0), 1));
      image.data.set([grey, grey, grey, 255], 4 * at);
    });
    context.drawImage(await createImageBitmap(image), (id % COLUMNS) * side, Math.floor(id / COLUMNS) * side, side, side);
  }
  keep(await canvas.convertToBlob(), "alphabet.png");
}

/** The same sheet as outlines: a group for each character, with its name as title. */
export function sheetSvg(names, drawn, size) {
  const rows = Math.ceil(names.length / COLUMNS), escaped = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.codePointAt(0)};`);
  const groups = [...drawn].map(([id, picture]) => {
    const corner = [(id % COLUMNS) * size, Math.floor(id / COLUMNS) * size];
    return `<g><title>${escaped(names[id])}</title><path d="${pathOf(picture, size, corner)}"/></g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${COLUMNS * size} ${rows * size}">\n${groups.join("\n")}\n</svg>\n`;
}

/** A picture's outlines as the path of an SVG, from `corner` on. */
function pathOf(picture, size, [left, top]) {
  const parts = [], place = ([x, y]) => [(x + left).toFixed(2), (y + top).toFixed(2)];
  const add = (letter) => (...numbers) => parts.push(letter + numbers.join(" "));
  for (const outline of trace(picture, size)) {
    walk(outline, { place, move: add("M"), line: add("L"), curve: add("Q") });
    parts.push("Z");
  }
  return parts.join("");
}

export function saveSheetSvg(names, drawn, size) {
  keep(new Blob([sheetSvg(names, drawn, size)], { type: "image/svg+xml" }), "alphabet.svg");
}

/** The drawn characters as a font of this name; `runner` knows who makes it. Returns the name of the file. */
export async function saveFont(runner, names, drawn, size, title) {
  const glyphs = [...drawn].map(([id, x]) => ({ character: names[id], x })).filter(({ character }) => [...character].length === 1);
  const { bytes, ending } = await runner.font({ name: title, size, glyphs });
  const file = `${title.replace(/[^A-Za-z0-9]+/g, "-")}.${ending}`;
  keep(new Blob([bytes], { type: `font/${ending}` }), file);
  return file;
}
