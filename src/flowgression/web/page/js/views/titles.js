// What models and times are called on the page.

const TITLES = new Map([
  ["sit-mnist", "SiT"], ["arflow-mnist", "ARFlow"], ["flowar-mnist", "FlowAR"], ["fastflowar-mnist", "FastFlowAR"],
  ["sit-mnist-meanflow", "SiT, one step"],
]);

const DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/** Whether a model's classes are the ten digits. */
export const drawsDigits = (model) => model.class_names.join() === DIGITS.join();

/** Whether this is one of the four models that the page is about (and the one that takes one step). */
export const isOurs = (model) => TITLES.has(model.name);

export const title = (model) => TITLES.get(model.name) ?? model.name;

/** Calls of the network for a whole picture. */
export function callsOf(model, solver, steps) {
  const once = new Map([["heun", 2 * steps - 1], ["midpoint", 2 * steps]]).get(solver) ?? steps;
  return once * (model.scales?.length ?? 1);
}

/** Where a frame stands. */
export function moment(model, frame) {
  const t = `t = ${frame.t.toFixed(2)}`;
  return model.scales ? `scale ${(frame.scale ?? 0) + 1} of ${model.scales.length}, ${t}` : t;
}

/** The most likely digit and how sure that is. */
export function guess(probabilities, names) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  return `${names[best] ?? best}, ${Math.round(100 * probabilities[best])} %`;
}

/** Side of a square picture of this many numbers. */
export const sideOf = (values, channels) => Math.round(Math.sqrt(values.length / channels));
