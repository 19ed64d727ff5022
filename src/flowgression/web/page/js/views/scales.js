// FlowAR's maps, coarse to fine: one can be edited, and the finer ones are drawn again.

import { latest } from "../backend.js";
import { byId, debounced, make, whenNear } from "../dom.js";
import { Pad } from "../pad.js";
import { paintPicture } from "../paint.js";
import { bind } from "../store.js";
import { request } from "./models.js";
import { sideOf, title } from "./titles.js";

export function setUpScales(store, runner, models, onError) {
  const able = models.filter((model) => model.abilities.includes("scales"));
  byId("scales").hidden = !able.length;
  if (!able.length) return;
  byId("scales-model").replaceChildren(...able.map((model) => make("option", { value: model.id }, title(model))));
  if (!able.some((model) => model.id === store.get("scalesmodel"))) store.set({ scalesmodel: able[0].id });
  const model = () => able.find((each) => each.id === store.get("scalesmodel")) ?? able[0];
  const caption = byId("scales-caption");
  bind(store, "scalesmodel", byId("scales-model"));
  bind(store, "brush", byId("scales-brush"), (value) => (value > 0.99 ? "ink" : value < -0.99 ? "paper" : value.toFixed(1)));
  let drawn = [], pads = [], edited = null; // maps as the model drew them; the pads; the scale that the user changed

  function build(maps) {
    const last = maps.length - 1;
    if (pads.length !== maps.length || pads.some((pad, k) => pad.side !== sideOf(maps[k], 1))) {
      byId("scales-edit").replaceChildren(...maps.slice(0, last).map((map, k) => make("option", { value: k }, `${sideOf(map, 1)} × ${sideOf(map, 1)}`)));
      bind(store, "edit", byId("scales-edit"));
      pads = maps.map((map, k) => (k < last ? editable(sideOf(map, 1), k) : { side: sideOf(map, 1), canvas: make("canvas", { role: "img", "aria-label": "The finished picture" }) }));
      byId("scales-maps").replaceChildren(...pads.map((pad, k) => make("figure", {}, pad.canvas, make("figcaption", {}, `${pad.side} × ${pad.side}${k === last ? ", finished" : ""}`))));
    }
    maps.forEach((map, k) => show(k, map));
    mark();
  }

  const show = (k, map) => (pads[k].set ? pads[k].set(map) : paintPicture(pads[k].canvas, map, pads[k].side));
  const mark = () => pads.forEach((pad, k) => pad.canvas.classList.toggle("chosen", k === store.get("edit")));

  function editable(side, k) {
    return new Pad({ side, label: `Map of ${side} by ${side}, editable`, brush: () => store.get("brush"), onStroke: () => {
      edited = k;
      store.set({ edit: k });
      mark();
      redraw();
    } });
  }

  async function maps(extra, signal) {
    const frames = await runner.sample({ ...request(store, model()), ...extra }, signal);
    const found = [];
    for (const frame of frames) found[frame.scale] = frame.x;
    return found;
  }

  /** Nothing can be edited while the maps that would be edited are being drawn. */
  function busy(now) {
    byId("scales-figure").setAttribute("aria-busy", String(now));
    for (const id of ["scales-clear", "scales-restore"]) byId(id).disabled = now;
    for (const pad of pads) pad.locked = now;
  }

  const first = latest(async (signal) => {
    edited = null;
    busy(true);
    caption.textContent = "Drawing …";
    drawn = await maps({}, signal);
    build(drawn);
    busy(false);
    caption.textContent = "As the model drew it. Paint on one of the coarse maps.";
  }, onError);

  const again = latest(async (signal) => {
    if (edited === null) return;
    const given = pads.slice(0, edited + 1).map((pad) => Float32Array.from(pad.values));
    const before = given.slice(0, edited);
    caption.textContent = "Drawing the finer scales again …";
    const found = await maps({ maps: given }, signal);
    found.forEach((map, k) => k > edited && show(k, map));
    const same = before.every((map, k) => map.every((value, i) => value === drawn[k][i]));
    caption.textContent = `Scales finer than ${pads[edited].side} × ${pads[edited].side} were drawn again` + (edited && same ? "; the coarser ones are the same to the bit." : ".");
  }, onError);
  const redraw = debounced(again, 120);

  byId("scales-clear").addEventListener("click", () => {
    const k = Math.min(store.get("edit"), pads.length - 2);
    if (k < 0) return;
    pads[k].set(new Float32Array(pads[k].side ** 2).fill(-1));
    edited = k;
    redraw();
  });
  byId("scales-restore").addEventListener("click", () => {
    edited = null;
    if (drawn.length) build(drawn);
    caption.textContent = "As the model drew it.";
  });
  store.listen(["edit"], mark);
  whenNear(byId("scales"), () => {
    const soon = debounced(first, 150);
    store.listen(["class", "seed", "steps", "guidance", "solver", "scalesmodel"], () => {
      busy(true);
      soon();
    });
    first();
  });
}
