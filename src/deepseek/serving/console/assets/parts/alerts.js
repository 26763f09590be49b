// What needs somebody: objectives that burn, columns that drift, memory and disk that run out.

import { h } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { badge } from "./cards.js";
import { icon } from "./icons.js";
import { worstDrift } from "./drift.js";

const FULL = 0.9;

/** All alerts of a monitor's snapshot, worst first: `{ kind, text, href }`. */
export function alertsOf(monitor) {
  const found = burning(monitor.stability.alerts);
  for (const { name, version, ready, queued_rows: queued, queue_limit: limit, quality } of monitor.models) {
    if (!ready)
      found.push({
        kind: "warn",
        text: t("alert.notReady", { model: name }),
        word: t("severity.note"),
        href: "#models",
      });
    if (limit && queued >= FULL * limit)
      found.push({
        kind: "bad",
        text: t("alert.queue", { model: name, queued, limit }),
        word: t("severity.page"),
        href: "#resources",
      });
    if (worstDrift(quality) === "drift") {
      const names = quality.drift.columns.filter(({ verdict }) => verdict === "drift").map((column) => column.name);
      found.push({
        kind: "warn",
        text: t("alert.drift", { model: name, columns: names.join(", ") }),
        word: t("severity.ticket"),
        href: `#quality/${encodeURIComponent(`${name}/${version}`)}`,
      });
    }
  }
  const machine = monitor.resources.machine;
  if (machine) {
    for (const [part, used, limit] of [
      ["memory", machine.memory_used, machine.memory_limit],
      ["disk", machine.disk_used, machine.disk_size],
    ]) {
      if (limit && used / limit >= FULL)
        found.push({
          kind: "bad",
          text: t(`alert.${part}`, { share: format.share(used / limit) }),
          word: t("severity.ticket"),
          href: "#resources",
        });
    }
  }
  return found.sort((a, b) => (a.kind === b.kind ? 0 : a.kind === "bad" ? -1 : 1));
}

/** One line for each objective, however many windows burn. */
function burning(alerts) {
  return [...new Set(alerts.map(({ slo }) => slo))].map((slo) => {
    const of = alerts.filter((each) => each.slo === slo);
    const urgent = of.some(({ severity }) => severity === "page");
    const rates = of
      .map(({ window, burn_rate: rate }) => t("alert.rate", { window, rate: format.plain(rate) }))
      .join(", ");
    return {
      kind: urgent ? "bad" : "warn",
      text: t("alert.burn", { slo, rates }),
      word: t(`severity.${urgent ? "page" : "ticket"}`),
      href: "#stability",
    };
  });
}

/** The alerts as a list, or that there are none. */
export function alertList(monitor) {
  const found = alertsOf(monitor);
  if (!found.length) return h("p", { class: "calm" }, icon("check"), t("overview.calm"));
  return h(
    "ul",
    { class: "alerts" },
    found.map(({ kind, text, word, href }) => h("li", {}, badge(word, kind), h("a", { href }, text))),
  );
}
