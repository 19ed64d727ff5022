// Small helpers for the document.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a child may be a string. */
export function make(tag, attributes = {}, ...children) {
  const svg = tag.startsWith("svg:");
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** `action` once calls stop coming for `wait` milliseconds. */
export function debounced(action, wait) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), wait);
  };
}

/** `action` once the element comes near the window; at once where nobody can tell. */
export function whenNear(element, action) {
  if (!("IntersectionObserver" in window)) return action();
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    action();
  }, { rootMargin: "600px" });
  observer.observe(element);
}

/** A number with `digits` significant digits, small ones as powers of ten. */
export function shown(value, digits = 2) {
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return "∞";
  const power = Math.floor(Math.log10(Math.abs(value)));
  if (power >= -3 && power < 6) return value.toLocaleString("en", { maximumSignificantDigits: Math.max(digits, power + 1) });
  const superscript = [...String(power)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("");
  return `${(value / 10 ** power).toFixed(digits - 1)}·10${superscript}`;
}

/** [label, value] pairs into a <dl>. */
export function fillNumbers(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}
