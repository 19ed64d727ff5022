// Solvers of dx/dt = v(x, t) with equal steps, as flowgression.flow.solvers.ode has them. x is a Float32Array or Float64Array.

/** Evaluations of the velocity for n steps. */
export const SOLVERS = { euler: (n) => n, heun: (n) => 2 * n - 1, midpoint: (n) => 2 * n };

/** n + 1 times from `first` to 1. */
export const grid = (n, first = 0) => Array.from({ length: n + 1 }, (_, i) => (i === n ? 1 : first + ((1 - first) * i) / n));

/**
 * Walks along `times`, and yields {x, t, velocity, extra} before every step and once at the end, with the last velocity.
 * `slope(x, t, step, first, end)` -> {velocity, extra}; only the `first` evaluation of a step may advance a state. A model
 * of average velocities gives that from t to `end`: of a step of one slope the whole step, else the velocity at t.
 */
export async function* walk(solver, slope, x, times) {
  if (!Object.hasOwn(SOLVERS, solver)) throw new Error(`there is no solver ${solver} here; there are ${Object.keys(SOLVERS).join(", ")}`);
  const last = times.length - 2, oneSlope = solver === "euler";
  let found;
  for (let step = 0; step <= last; step++) {
    const t = times[step], dt = times[step + 1] - t;
    found = await slope(x, t, step, true, oneSlope ? times[step + 1] : t);
    yield { x, t, ...found };
    const v = found.velocity;
    if (solver === "heun" && step < last) {
      const end = await slope(add(x, v, dt), times[step + 1], step, false, times[step + 1]);
      x = add(add(x, v, dt / 2), end.velocity, dt / 2);
    } else if (solver === "midpoint") {
      const half = (t + times[step + 1]) / 2, middle = await slope(add(x, v, dt / 2), half, step, false, half);
      x = add(x, middle.velocity, dt);
    } else x = add(x, v, dt);
  }
  yield { x, t: times[last + 1], ...found, done: true };
}

/** x + factor v, of the type of x. */
export const add = (x, v, factor) => x.map((value, i) => value + factor * v[i]);

/** v_null + scale (v_class - v_null) of two rows, the class first. */
export function guided(rows, scale) {
  const half = rows.length / 2;
  return rows.slice(0, half).map((v, i) => rows[half + i] + scale * (v - rows[half + i]));
}

/** An array twice, one behind the other. */
export function twice(x) {
  const both = new x.constructor(2 * x.length);
  both.set(x);
  both.set(x, x.length);
  return both;
}

/** The frame of a point of the walk. */
export function frame(at, more) {
  const x = Float32Array.from(at.x), velocity = Float32Array.from(at.velocity);
  return { t: at.t, x, velocity, predicted: add(x, velocity, 1 - at.t), ...more };
}
