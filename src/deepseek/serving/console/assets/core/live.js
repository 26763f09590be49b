// The server's state, asked for while somebody looks, as often as there are new points: every five seconds by
// default. The history is kept here; what comes is joined.

import { ApiError, json } from "./api.js";

const MOST_MS = 5000;
const LEAST_MS = 1000;
const SLOWEST_MS = 30000;

/** Polls `console/data` and tells `change` after every answer and every failure. */
export class Live extends EventTarget {
  constructor() {
    super();
    this.data = null;
    /** `loading`, `fresh`, `stale` (nobody answers) or `locked` (a key is needed). */
    this.status = "loading";
    this.error = null;
    this.timer = 0;
    this.failures = 0;
    this.busy = false;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.poll()));
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = 0;
  }

  /** Ask now, and again after a step of the history; after failures less often. */
  async poll() {
    this.pause();
    if (this.busy) return;
    this.busy = true;
    try {
      await this.ask();
      this.status = "fresh";
      this.error = null;
      this.failures = 0;
    } catch (error) {
      this.failures += 1;
      this.error = error;
      this.status = error instanceof ApiError && (error.status === 401 || error.status === 403) ? "locked" : "stale";
    } finally {
      this.busy = false;
    }
    if (!document.hidden && this.status !== "locked") {
      const step = (this.data?.monitor?.step_seconds ?? MOST_MS / 1000) * 1000;
      const every = Math.min(MOST_MS, Math.max(LEAST_MS, step));
      this.timer = setTimeout(() => this.poll(), Math.min(SLOWEST_MS, every * 2 ** Math.max(0, this.failures - 1)));
    }
    this.dispatchEvent(new Event("change"));
  }

  async ask() {
    if (this.data !== null) {
      const recent = await json("console/data/recent");
      const joined = join(this.data, recent);
      if (joined !== null) {
        this.data = joined;
        return;
      }
    }
    this.data = await json("console/data");
  }
}

/** The known document with the newest points of another; null when they do not meet, or models are new. */
export function join(known, recent) {
  const signatures = known.signatures;
  if ((recent.repository ?? []).some(({ name, version }) => version && !(`${name}/${version}` in signatures)))
    return null;
  if (!recent.monitor || !known.monitor) return recent.monitor === known.monitor ? { ...recent, signatures } : null;
  if (recent.monitor.started !== known.monitor.started) return null;
  const before = known.monitor.history;
  const after = recent.monitor.history;
  const last = before.times.at(-1) ?? -Infinity;
  const from = after.times.findIndex((at) => at > last);
  if (before.times.length && after.times.length && after.times[0] > last) return null;
  if (Object.keys(after.models).some((key) => !(key in before.models))) return null;
  const grown = (old, more) => (from < 0 ? old : [...old, ...more.slice(from)]);
  const oldest = recent.server.now - recent.server.history_seconds;
  const times = grown(before.times, after.times);
  const skip = Math.max(
    0,
    times.findIndex((at) => at >= oldest),
  );
  const rings = (old, more) =>
    Object.fromEntries(Object.keys(more).map((name) => [name, grown(old[name] ?? [], more[name]).slice(skip)]));
  const models = Object.fromEntries(
    Object.keys(after.models).map((key) => [key, rings(before.models[key], after.models[key])]),
  );
  const history = { times: times.slice(skip), server: rings(before.server, after.server), models };
  return { ...recent, signatures, monitor: { ...recent.monitor, history } };
}

/** The part of a history that is not older than so many seconds. */
export function within(history, seconds) {
  const { times } = history;
  const oldest = (times.at(-1) ?? 0) - seconds;
  const skip = Math.max(
    0,
    times.findIndex((at) => at >= oldest),
  );
  const cut = (rings) => Object.fromEntries(Object.entries(rings).map(([name, ring]) => [name, ring.slice(skip)]));
  return {
    times: times.slice(skip),
    server: cut(history.server),
    models: Object.fromEntries(Object.entries(history.models).map(([key, rings]) => [key, cut(rings)])),
  };
}

/** The newest value of a series that is not empty. */
export function newest(series) {
  for (let at = (series?.length ?? 0) - 1; at >= 0; at -= 1) if (series[at] !== null) return series[at];
  return null;
}
