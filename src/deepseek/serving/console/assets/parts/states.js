// A model's state in a word and a colour.

import { t, has } from "../core/i18n.js";
import { badge } from "./cards.js";

const KINDS = { READY: "good", LOADING: "info", UNAVAILABLE: "quiet" };

/** The badge of a line of the repository's index. */
export function modelState({ state, reason, version }) {
  const failed = state === "UNAVAILABLE" && reason && reason !== "unloaded" && !version;
  const key = `state.${state}`;
  return badge(failed ? t("state.FAILED") : has(key) ? t(key) : state, failed ? "bad" : (KINDS[state] ?? "quiet"));
}
