// Light and dark, and the colours that canvases paint with.

import { byId } from "./dom.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = [];

/** Sets up the choice of a theme; it is kept on this device. */
export function setUpTheme() {
  const choice = byId("theme");
  try {
    choice.value = localStorage.getItem("theme") ?? "auto";
  } catch {
    choice.value = "auto"; // storage is switched off: the choice lasts as long as the page
  }
  if (!choice.value) choice.value = "auto";
  const apply = () => {
    const theme = choice.value === "auto" ? (dark.matches ? "dark" : "light") : choice.value;
    document.documentElement.dataset.theme = theme;
    for (const listener of listeners) listener();
  };
  choice.addEventListener("change", () => {
    try {
      localStorage.setItem("theme", choice.value);
    } catch {
      // as above
    }
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

/** Calls `action` after the theme changed, to paint again. */
export function onTheme(action) {
  listeners.push(action);
}

/** A colour of the style sheet, such as "ink", as [r, g, b]. */
export function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const hex = text.slice(1);
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** The same as text for a canvas. */
export function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
