// Drift in a word and a colour.

import { t } from "../core/i18n.js";
import { badge } from "./cards.js";

const KINDS = { stable: "good", warning: "warn", drift: "bad" };
const ORDER = ["stable", "warning", "drift"];

/** The badge of a verdict; null: there is none yet. */
export function driftBadge(verdict) {
  return verdict === null ? badge(t("drift.waiting"), "quiet") : badge(t(`drift.${verdict}`), KINDS[verdict]);
}

/** The worst verdict of a model's columns; null before the first. */
export function worstDrift(quality) {
  const columns = quality?.drift?.columns ?? [];
  if (!columns.length) return null;
  return ORDER[Math.max(...columns.map(({ verdict }) => ORDER.indexOf(verdict)))];
}
