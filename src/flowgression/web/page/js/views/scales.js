// FlowAR's maps, coarse to fine: one can be edited, and the finer ones are drawn again.

import { latest } from "../backend.js";
import { byId, debounced, make, whenNear } from "../dom.js";
import { Pad } from "../pad.js";
import { paintPicture } from "../paint.js";
import { bind } from "../store.js";
import { request } from "./models.js";
import { colourOf } from "./picture.js";
import { sideOf, title } from "./titles.js";

/** Shows the section where a model has scales; returns {add(model)}. */
export function setUpScales(store, runner, models, onError) {
  const able = [], caption = byId("scales-caption");
  let drawn = [], pads = [], edited = null; // maps as the model drew them; the pads; the scale that the user changed
  let padChannels = 0, showEdit = null;
  const model = () => able.find((each) => each.id === store.get("scalesmodel")) ?? able[0];
  const channels = () => model().sample.channels;

  function add(one) {
    if (!one.abilities.includes("scales")) return;
    able.push(one);
    byId("scales-model").append(make("option", { value: one.id }, title(one)));
  }

  /** What is done once, when there is a model. */
  function begin() {
    if (showEdit || !able.length) return;
    byId("scales").hidden = false;
    if (model().id !== store.get("scalesmodel")) store.set({ scalesmodel: model().id });
    bind(store, "scalesmodel", byId("scales-model"));
    showEdit = bind(store, "edit", byId("scales-edit"));
    whenNear(byId("scales"), () => {
      const soon = debounced(first, 150);
      store.listen(["class", "seed", "steps", "guidance", "solver", "scalesmodel"], () => {
        busy(true);
        soon();
      });
      first();
    });
  }

  byId("scales").hidden = true;
  bind(store, "brush", byId("scales-brush"), (value) => (value > 0.99 ? "ink" : value < -0.99 ? "paper" : value.toFixed(1)));

  function build(maps) {
    const last = maps.length - 1, sides = maps.map((map) => sideOf(map, channels())), grey = channels() === 1;
    byId("scales-brush").closest("label").hidden = !grey;
    byId("scales-colour").closest("label").hidden = grey;
    if (padChannels !== channels() || pads.map((pad) => pad.side).join() !== sides.join()) {
      padChannels = channels();
      byId("scales-edit").replaceChildren(...sides.slice(0, last).map((side, k) => make("option", { value: k }, `${side} × ${side}`)));
      store.set({ edit: Math.min(store.get("edit"), last - 1) });
      showEdit();
      pads = sides.map((side, k) => (k < last ? editable(side, k) : { side, canvas: make("canvas", { role: "img", "aria-label": "The finished picture" }) }));
      byId("scales-maps").replaceChildren(...pads.map((pad, k) => make("figure", {}, pad.canvas, make("figcaption", {}, `${pad.side} × ${pad.side}${k === last ? ", finished" : ""}`))));
    }
    maps.forEach((map, k) => show(k, map));
    mark();
  }

  const show = (k, map) => (pads[k].set ? pads[k].set(map) : paintPicture(pads[k].canvas, map, pads[k].side, channels()));
  const mark = () => pads.forEach((pad, k) => pad.canvas.classList.toggle("chosen", k === store.get("edit")));

  function editable(side, k) {
    const grey = channels() === 1, brush = () => (grey ? store.get("brush") : colourOf(byId("scales-colour").value));
    return new Pad({ side, channels: channels(), label: `Map of ${side} by ${side}, editable`, brush, onStroke: () => {
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
    pads[k].set(new Float32Array(channels() * pads[k].side ** 2).fill(channels() === 1 ? -1 : 1));
    edited = k;
    redraw();
  });
  byId("scales-restore").addEventListener("click", () => {
    edited = null;
    if (drawn.length) build(drawn);
    caption.textContent = "As the model drew it.";
  });
  store.listen(["edit"], mark);
  models.forEach(add);
  begin();
  return {
    add(one) {
      add(one);
      begin();
    },
  };
}
