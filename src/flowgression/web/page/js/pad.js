// A picture to draw on, with a pointer or with the keys: arrows move, space or Enter draws.

import { make } from "./dom.js";
import { paintPicture } from "./paint.js";

const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Pad {
  /**
   * @param side pixels on a side
   * @param label what a screen reader calls it
   * @param channels 1, or 3 for red, green and blue
   * @param paper the value of an empty pad, in [-1, 1]
   * @param brush () -> the value that is drawn, in [-1, 1], or one for each channel
   * @param soft whether a stroke is a round pen rather than single cells
   * @param onStroke called after every change by the user
   */
  constructor({ side, label, channels = 1, paper = -1, brush = () => 1, soft = false, onStroke = () => {} }) {
    Object.assign(this, { side, channels, brush, soft, onStroke });
    this.values = new Float32Array(channels * side * side).fill(paper);
    this.cursor = [side >> 1, side >> 1];
    this.focused = this.locked = false;
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": `${label}. Arrow keys move, space draws.` });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.last = null;
      this.#stroke(event);
    });
    this.canvas.addEventListener("pointermove", (event) => event.buttons && this.#stroke(event));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const type of ["focus", "blur"]) {
      this.canvas.addEventListener(type, () => {
        this.focused = type === "focus" && this.canvas.matches(":focus-visible");
        this.show();
      });
    }
    this.show();
  }

  set(values) {
    this.values = Float32Array.from(values);
    this.show();
  }

  /** A line of the pen through [row, column] points, in pixels. */
  draw(points) {
    this.last = null;
    for (const point of points) this.#to(point);
    this.show();
    this.onStroke();
  }

  show() {
    const shown = Float32Array.from(this.values);
    if (this.focused) {
      const place = this.cursor[0] * this.side + this.cursor[1];
      for (let at = place; at < shown.length; at += this.side ** 2) shown[at] = shown[at] > 0 ? -0.4 : 0.4;
    }
    paintPicture(this.canvas, shown, this.side, this.channels);
  }

  #stroke(event) {
    if (this.locked) return;
    const box = this.canvas.getBoundingClientRect();
    const place = (offset, length) => Math.min(Math.max((offset / length) * this.side, 0), this.side - 1e-3);
    this.#to([place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width)]);
    this.show();
    this.onStroke();
  }

  #to(point) {
    const from = this.last ?? point, far = Math.hypot(point[0] - from[0], point[1] - from[1]);
    const steps = Math.max(1, Math.ceil(far * 3));
    for (let k = 1; k <= steps; k++) this.#dab(from.map((c, axis) => c + ((point[axis] - c) * k) / steps));
    this.last = point;
  }

  #dab([row, column]) {
    const value = this.brush();
    if (!this.soft) {
      const place = Math.floor(row) * this.side + Math.floor(column), area = this.side ** 2;
      [value].flat().forEach((each, c) => (this.values[c * area + place] = each));
      return;
    }
    if (this.channels > 1) return this.#colour([row, column], value);
    for (let i = 0; i < this.side; i++) {
      for (let j = 0; j < this.side; j++) {
        const ink = Math.min(Math.max(2.1 - Math.hypot(i + 0.5 - row, j + 0.5 - column), 0), 1);
        this.values[i * this.side + j] = Math.max(this.values[i * this.side + j], 2 * ink - 1);
      }
    }
  }

  /** A round dot of a colour, over what is there. */
  #colour([row, column], colour) {
    for (let at = 0; at < this.side * this.side; at++) {
      const far = Math.hypot(Math.floor(at / this.side) + 0.5 - row, (at % this.side) + 0.5 - column);
      const ink = Math.min(Math.max(2.1 - far, 0), 1);
      for (let c = 0; c < this.channels; c++) {
        const place = c * this.side * this.side + at;
        this.values[place] += ink * (colour[c] - this.values[place]);
      }
    }
  }

  #key(event) {
    if (Object.hasOwn(KEYS, event.key)) {
      this.cursor = this.cursor.map((c, axis) => Math.min(Math.max(c + KEYS[event.key][axis], 0), this.side - 1));
    } else if ((event.key === " " || event.key === "Enter") && !this.locked) {
      this.#dab(this.cursor.map((c) => c + 0.5));
      this.onStroke();
    } else return;
    event.preventDefault();
    this.focused = true;
    this.show();
  }
}
