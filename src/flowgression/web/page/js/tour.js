// A walk through the page in five stops. Each sets the page to something worth seeing.

import { byId } from "./dom.js";

const STOPS = [
  ["models", "Noise becomes a digit", "All four pictures began as noise and were told one thing: the class. Drag the time back to 20 %. There is hardly anything to see yet, but the predicted end already guesses.", { time: 200 }],
  ["memory", "Take its past away", "ARFlow reads what it drew before. Here it forgets from step 4 on. The two pictures part from there: orange and blue are what memory changed.", { past: "forget", forget: 4 }],
  ["scales", "Meddle with the sketch", "FlowAR first drew four by four pixels. Paint on a coarse map, and everything finer follows your sketch.", {}],
  ["lowrank", "Make attention cheap", "A polynomial of degree 2 stands in for the exponential. Push τ up and watch the error grow, always below its certificate.", { degree: 2, tau: 3 }],
  ["circuits", "All of it is gates", "Softmax attention as threshold gates, in 34 levels. More tokens make it wider, but never deeper than 36. Press “Light up”.", { circuit: "attention", bits: "", level: -1, gate: 0 }],
];

export function setUpTour(store) {
  const panel = byId("tour");
  let at = 0;

  function go(stop) {
    at = Math.min(Math.max(stop, 0), STOPS.length - 1);
    const [section, title, text, settings] = STOPS[at];
    panel.hidden = false;
    byId("tour-count").textContent = `Stop ${at + 1} of ${STOPS.length}`;
    byId("tour-title").textContent = title;
    byId("tour-text").textContent = text;
    byId("tour-back").disabled = at === 0;
    byId("tour-next").textContent = at === STOPS.length - 1 ? "Finish" : "Next";
    store.set(settings);
    byId(section).scrollIntoView({ block: "start" });
    byId("tour-title").focus({ preventScroll: true });
  }

  function end() {
    panel.hidden = true;
    byId(`${STOPS[at][0]}-title`).focus({ preventScroll: true });
  }

  byId("tour-start").addEventListener("click", () => go(0));
  byId("tour-back").addEventListener("click", () => go(at - 1));
  byId("tour-next").addEventListener("click", () => (at === STOPS.length - 1 ? end() : go(at + 1)));
  byId("tour-end").addEventListener("click", end);
  panel.addEventListener("keydown", (event) => event.key === "Escape" && end());
}
