// Letters from a photo, as typeface/letters.py makes them: found by their ink, cut apart, and placed in squares on one
// baseline and at one scale. Ink is 1 and ground 0 here.

const BASELINE = 0.74, CAPITAL = 0.58, SMALL = 0.42, ASCENDER = 0.62, DESCENDER = 0.18; // shares of the square's side
const TALL = "bdfhklt", DEEP = "gjpqy";
const SPECK = 0.0002, INKED = 0.4, LIGHT = 0.5; // of the picture's area; of the darkest; a lighter ground is paper
const MARKS = { "-": 0.25, "'": 0.42, ",": -0.08 }; // how far above the baseline they end

/**
 * @param grey width * height numbers in [0, 1], white 1
 * @param text the letters from left to right, each once
 * @return a Map from each letter to its picture, size * size numbers in [-1, 1], ink 1
 */
export function lettersOf(grey, width, height, text, size) {
  const wanted = [...text].filter((letter) => letter.trim());
  if (!wanted.length || new Set(wanted).size < wanted.length) throw new Error("say which letters the photo shows, each once");
  const ink = inkOf(grey, width, height), boxes = boxesOf(ink, width, height);
  if (boxes.length !== wanted.length) {
    throw new Error(`the photo shows ${boxes.length} letters side by side, but ${wanted.length} are named (${wanted.join("")}); `
      + "write them in one row with gaps between them, on plain paper, and cut off whatever else is in the picture");
  }
  return placed(ink, width, new Map(wanted.map((letter, k) => [letter, boxes[k]])), size);
}

function quantile(values, share) {
  const sorted = Float32Array.from(values).sort();
  return sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)];
}

/** Dark on light is turned round, and the paper's own light and shade is taken off. */
function inkOf(grey, width, height) {
  const border = [];
  for (let x = 0; x < width; x++) border.push(grey[x], grey[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) border.push(grey[y * width], grey[y * width + width - 1]);
  const turned = quantile(border, 0.5) >= LIGHT ? Float32Array.from(grey, (value) => 1 - value) : Float32Array.from(grey);
  const block = Math.max(8, Math.round(Math.max(width, height) / 16)); // wider than a stroke
  const columns = Math.ceil(width / block), rows = Math.ceil(height / block), ground = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const values = [];
      for (let y = row * block; y < Math.min((row + 1) * block, height); y++) {
        for (let x = column * block; x < Math.min((column + 1) * block, width); x++) values.push(turned[y * width + x]);
      }
      ground[row * columns + column] = quantile(values, 0.1);
    }
  }
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const even = turned.map((value, at) => {
    const v = clamp((Math.floor(at / width) + 0.5) / block - 0.5, rows - 1), u = clamp(((at % width) + 0.5) / block - 0.5, columns - 1);
    const top = Math.floor(v), left = Math.floor(u), low = Math.min(top + 1, rows - 1), right = Math.min(left + 1, columns - 1);
    const light = (1 - v + top) * ((1 - u + left) * ground[top * columns + left] + (u - left) * ground[top * columns + right])
      + (v - top) * ((1 - u + left) * ground[low * columns + left] + (u - left) * ground[low * columns + right]);
    return Math.max(value - light, 0);
  });
  const low = quantile(even, 0.05), high = even.reduce((a, b) => Math.max(a, b), 0);
  if (high - low < 0.125) throw new Error("the photo shows no ink: letters must be much darker than the paper, or much lighter");
  return even.map((value) => clamp((value - low) / (0.85 * (high - low)), 1));
}

/** [left, top, right, bottom] of every letter, from left to right; parts above each other are one letter. */
function boxesOf(ink, width, height) {
  const seen = new Uint8Array(ink.length), parts = [];
  for (let start = 0; start < ink.length; start++) {
    if (seen[start] || ink[start] <= INKED) continue;
    const box = [width, height, 0, 0], stack = [start];
    let area = 0;
    seen[start] = 1;
    while (stack.length) {
      const at = stack.pop(), x = at % width, y = Math.floor(at / width);
      area += 1;
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
      for (let b = Math.max(y - 1, 0); b <= Math.min(y + 1, height - 1); b++) {
        for (let a = Math.max(x - 1, 0); a <= Math.min(x + 1, width - 1); a++) {
          const near = b * width + a;
          if (!seen[near] && ink[near] > INKED) {
            seen[near] = 1;
            stack.push(near);
          }
        }
      }
    }
    if (area > SPECK * ink.length) parts.push(box);
  }
  const letters = [];
  for (const [left, top, right, bottom] of parts.sort((a, b) => a[0] - b[0])) {
    const last = letters.at(-1);
    if (last && left < last[2]) letters[letters.length - 1] = [last[0], Math.min(last[1], top), Math.max(last[2], right), Math.max(last[3], bottom)];
    else letters.push([left, top, right, bottom]);
  }
  return letters;
}

/** [above, below] the baseline that a letter is expected to reach, as shares of the square's side. */
function extentOf(letter) {
  if (letter === letter.toUpperCase()) return [CAPITAL, 0];
  return [TALL.includes(letter) ? ASCENDER : SMALL + ("ij".includes(letter) ? 0.14 : 0), DEEP.includes(letter) ? DESCENDER : 0];
}

function placed(ink, width, boxes, size) {
  const isLetter = (letter) => /[\p{L}\p{N}]/u.test(letter), all = [...boxes];
  const ratios = all.filter(([letter]) => isLetter(letter)).map(([letter, [, top, , bottom]]) => (extentOf(letter)[0] + extentOf(letter)[1]) * size / (bottom - top));
  const [low, high] = [Math.floor((ratios.length - 1) / 2), Math.floor(ratios.length / 2)];
  const middle = ratios.length ? (ratios.sort((a, b) => a - b)[low] + ratios[high]) / 2 : Infinity;
  const scale = Math.min(middle, ...all.map(([, [left, top, right, bottom]]) => (size - 2) / Math.max(right - left, bottom - top)));
  return new Map(all.map(([letter, box]) => {
    const small = shrunk(ink, width, box, scale), foot = isLetter(letter) ? BASELINE + extentOf(letter)[1] : BASELINE - (MARKS[letter] ?? 0);
    const top = Math.min(Math.max(Math.round(foot * size) - small.height, 0), size - small.height), left = (size - small.width) >> 1;
    const picture = new Float32Array(size * size).fill(-1);
    small.values.forEach((value, at) => {
      picture[(top + Math.floor(at / small.width)) * size + left + (at % small.width)] = 2 * value - 1;
    });
    return [letter, picture];
  }));
}

/** The box of the picture at another scale: every new pixel is the mean over what it covers. */
function shrunk(ink, stride, [left, top, right, bottom], scale) {
  const width = Math.max(1, Math.round((right - left) * scale)), height = Math.max(1, Math.round((bottom - top) * scale));
  const across = (right - left) / width, down = (bottom - top) / height;
  const values = Float32Array.from({ length: width * height }, (_, at) => {
    const x = (at % width) * across, y = Math.floor(at / width) * down;
    let sum = 0, weight = 0;
    for (let row = Math.floor(y); row < Math.min(y + down, bottom - top); row++) {
      for (let column = Math.floor(x); column < Math.min(x + across, right - left); column++) {
        const part = (Math.min(row + 1, y + down) - Math.max(row, y)) * (Math.min(column + 1, x + across) - Math.max(column, x));
        sum += part * ink[(top + row) * stride + left + column];
        weight += part;
      }
    }
    return sum / weight;
  });
  return { values, width, height };
}

/** A picture file as grey numbers in [0, 1], no more than `most` pixels wide or high. */
export async function greyOf(file, most = 640) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, most / Math.max(picture.width, picture.height));
  const width = Math.max(1, Math.round(picture.width * scale)), height = Math.max(1, Math.round(picture.height * scale));
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const grey = Float32Array.from({ length: width * height }, (_, at) => (0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2]) / 255);
  return { grey, width, height };
}
