// What the page says where it shows a model of one's own instead of the four that it is about.

import { byId } from "../dom.js";
import { isOurs, title } from "./titles.js";

const SHOWN = 12; // names of classes in the heading's text

/** Names the model and its classes, and leaves out what is said of digits and of the four models. */
export function setUpWords(models) {
  const [first, ...others] = models;
  if (isOurs(first)) return;
  document.documentElement.dataset.own = "yes"; // the style sheet hides the rest
  const names = first.class_names, more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : "";
  document.title = `${title(first)}: from noise to a picture`;
  byId("title").textContent = title(first);
  byId("own-words").textContent = `${first.sample.size} × ${first.sample.size} pixels, ` +
    `${names.length === 1 ? "one class" : `${names.length} classes`}: ${names.slice(0, SHOWN).join(", ")}${more}.`;
  byId("models-title").textContent = others.length ? `One noise, ${models.length} models` : "From noise to a picture";
}
