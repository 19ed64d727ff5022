// Starts the page: the parts that need no model at once, the others as soon as there is a backend.

import { openBackend, Runner } from "./backend.js";
import { setUpCircuits } from "./circuit/view.js";
import { byId } from "./dom.js";
import { setUpLowRank } from "./lowrank/view.js";
import { Store } from "./store.js";
import { setUpTheme } from "./theme.js";
import { setUpTour } from "./tour.js";
import { setUpAlphabet } from "./views/alphabet.js";
import { setUpChart } from "./views/chart.js";
import { setUpFinish } from "./views/finish.js";
import { setUpMemory } from "./views/memory.js";
import { setUpModels } from "./views/models.js";
import { setUpOwn } from "./views/own.js";
import { setUpPicture } from "./views/picture.js";
import { setUpScales } from "./views/scales.js";
import { setUpWords } from "./views/words.js";

const status = byId("status");

function fail(error) {
  console.error(error);
  status.classList.add("error");
  status.textContent = `Something went wrong: ${error.message}`;
}

/** Links to the sections that are there. */
function showLinks() {
  for (const link of document.querySelectorAll(".top nav a")) link.hidden = byId(link.hash.slice(1)).hidden;
}

async function start() {
  setUpTheme();
  const store = new Store();
  setUpLowRank(store);
  if (location.protocol === "file:") return; // nothing else can be read from there; the page says what to do
  status.textContent = "Loading the models …";
  setUpTour(store);
  byId("copy-link").addEventListener("click", async () => {
    const link = store.link();
    try {
      await navigator.clipboard.writeText(link);
      status.textContent = "The link is copied.";
    } catch {
      status.textContent = `This is the link: ${link}`; // no permission for the clipboard
    }
  });
  await setUpCircuits(store);
  const backend = await openBackend();
  const models = await backend.models();
  if (!models.length) throw new Error("there are no models beside this page");
  const runner = new Runner(backend);
  byId("where").textContent = backend.kind === "remote" ? "in PyTorch, on the computer that serves it" : "on your own device";
  setUpAlphabet(store, runner, models, fail);
  const single = models.filter((model) => !model.abilities.includes("examples")), pictures = single.length ? single : models;
  setUpWords(pictures);
  const columns = setUpModels(store, runner, pictures, fail);
  setUpMemory(store, runner, pictures, fail);
  const scales = setUpScales(store, runner, pictures, fail);
  setUpFinish(store, runner, pictures, fail);
  const picture = setUpPicture(store, runner, pictures, fail);
  setUpOwn(backend.add ? (files) => backend.add(files) : null, (model) => {
    for (const each of [columns, scales, picture]) each.add(model);
    showLinks();
  });
  showLinks();
  status.textContent = models.length === 1 ? "The model is ready." : `${models.length} models are ready.`;
  document.documentElement.dataset.ready = "yes";
  await setUpChart(store, pictures);
}

start().catch(fail);
