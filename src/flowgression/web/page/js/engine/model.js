// An exported model as the page knows models.

import { sampleLike } from "./examples.js";
import { sampleScales } from "./flowar.js";
import { Export } from "./session.js";
import { SOLVERS } from "./solvers.js";
import { sampleVelocity } from "./velocity.js";

/** Opens an export directory: {about, sample(request)}; `about` is what backend.models() lists. */
export async function openModel(runtime, read, id) {
  const opened = await Export.open(runtime, read);
  const { name, family, class_names, sample, scales, patch_size, defaults, state } = opened.manifest;
  const abilities = ["complete", ...(state.length ? ["state"] : []), ...(scales ? ["scales"] : [])];
  if (opened.manifest.config.average_velocity) abilities.push("averages"); // a call crosses a whole interval of time
  if (state.length && opened.manifest.config.clean > 0) abilities.push("examples"); // it has seen clean images in training
  const about = { id: id ?? name, name, family, class_names, sample, defaults, abilities, solvers: Object.keys(SOLVERS) };
  if (scales) Object.assign(about, { scales, map_sides: scales.map((side) => side * patch_size) });
  return { about, sample: (request) => sampler(request, scales)(opened, request) };
}

const sampler = (request, scales) => (request.class_labels ? sampleLike : scales ? sampleScales : sampleVelocity);
