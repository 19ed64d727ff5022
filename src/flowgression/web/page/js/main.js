// Starts the page: the parts that need no model at once, the others as soon as there is a backend.

import { setUpCircuits } from "./circuit/view.js";
import { byId } from "./dom.js";
import { setUpLowRank } from "./lowrank/view.js";
import { Store } from "./store.js";
import { setUpTheme } from "./theme.js";

const status = byId("status");

function fail(error) {
  console.error(error);
  status.classList.add("error");
  status.textContent = error.message;
}

async function start() {
  status.textContent = "Loading the models …";
  setUpTheme();
  const store = new Store();
  byId("copy-link").addEventListener("click", async () => {
    await navigator.clipboard.writeText(store.link());
    status.textContent = "The link is copied.";
  });
  setUpLowRank(store);
  await setUpCircuits(store);
}

start().catch(fail);
