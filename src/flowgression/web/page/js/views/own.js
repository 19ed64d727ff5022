// A model of the visitor's: an export directory, dropped or chosen.

import { byId } from "../dom.js";

/** `add(files)` takes the files of a directory and returns its model; null where the backend cannot (a server). */
export function setUpOwn(add, onModel) {
  byId("own").hidden = !add;
  if (!add) return;
  const status = byId("own-status"), drop = byId("drop");

  async function take(files) {
    status.textContent = "Reading …";
    try {
      if (!files.some((file) => file.name === "manifest.json")) {
        throw new Error("there is no manifest.json among these files; expected the folder that flowgression export wrote");
      }
      const model = await add(files);
      onModel(model);
      status.textContent = `${model.name} has joined the others above.`;
    } catch (error) {
      status.textContent = `This could not be read: ${error.message}.`;
    }
  }

  byId("own-files").addEventListener("change", (event) => take([...event.target.files]));
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragenter" || type === "dragover");
    });
  }
  drop.addEventListener("drop", async (event) => {
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    take((await Promise.all(entries.map(filesOf))).flat());
  });
}

/** The files of a dropped file or directory. */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return (await Promise.all(found.map(filesOf))).flat();
    found.push(...some);
  }
}
