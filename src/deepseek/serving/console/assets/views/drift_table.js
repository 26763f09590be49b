// The columns of a drift report: verdict, effect beside its threshold; on demand each test's numbers and both shapes.

import { columns } from "../charts/bars.js";
import { h, fill } from "../core/dom.js";
import * as format from "../core/format.js";
import { t, has } from "../core/i18n.js";
import { table } from "../parts/cards.js";
import { driftBadge } from "../parts/drift.js";

/** A table that keeps open what was opened while its numbers change. */
export function driftTable() {
  const opened = new Set();
  return { update: (drift) => drawn(drift, opened) };
}

function drawn({ columns: found, rows, ended }, opened) {
  const sorted = [...found].sort((a, b) => b.effect - a.effect);
  const note =
    ended === null
      ? t("quality.firstVerdict", { rows: format.count(rows) })
      : t("quality.verdictOf", { rows: format.count(rows), time: format.clock(ended, true) });
  return h(
    "div",
    { class: "drift" },
    h("p", { class: "hint" }, note),
    h(
      "ul",
      { class: "drift-columns" },
      sorted.map((column) => line(column, opened)),
    ),
  );
}

function line(column, opened) {
  const detail = h("div", { class: "drift-detail" });
  const show = () => fill(detail, column.shares ? distribution(column) : null, testTable(column.tests));
  const element = h(
    "details",
    { open: opened.has(column.name) },
    h(
      "summary",
      {},
      h("span", { class: "drift-name" }, h("b", {}, column.name), h("small", {}, t(`side.${column.side}`))),
      driftBadge(column.verdict),
      effectBar(column),
      h("span", { class: "drift-effect" }, t("quality.ofThreshold", { times: format.plain(column.effect) })),
    ),
    detail,
  );
  if (element.open) show();
  element.addEventListener("toggle", () => {
    if (element.open) {
      opened.add(column.name);
      show();
    } else opened.delete(column.name);
  });
  return h("li", {}, element);
}

function effectBar({ effect, verdict }) {
  const bar = h("i", { class: `effect ${{ stable: "good", warning: "warn", drift: "bad" }[verdict]}` });
  bar.style.width = `${(effect / (effect + 1)) * 100}%`; // the threshold is in the middle, and nothing is too far
  return h("span", { class: "effect-track", "aria-hidden": "true" }, bar, h("i", { class: "effect-mark" }));
}

function distribution({ name, shares }) {
  return h(
    "figure",
    { class: "shape" },
    h(
      "figcaption",
      { class: "hint legend-line" },
      h("i", { class: "key tone-1" }),
      t("quality.now"),
      " ",
      h("i", { class: "key tone-0" }),
      t("quality.trained"),
    ),
    columns({ bins: shares.bins, values: shares.live, others: shares.reference, title: name }).root,
  );
}

function testTable(tests) {
  return table(
    [
      { title: t("test.aspect") },
      { title: t("test.test"), narrow: false },
      { title: t("test.effect"), number: true },
      { title: t("test.warning"), number: true },
      { title: t("test.drift"), number: true },
      { title: t("test.p"), number: true },
      { title: t("test.verdict") },
    ],
    tests.map((test) => [
      words(`aspect.${test.aspect}`, test.aspect),
      words(`test.name.${test.test}`, test.test),
      `${format.plain(test.effect)} ${words(`measure.${test.measure}`, test.measure)}`,
      format.plain(test.warning),
      format.plain(test.drift),
      format.probability(test.p_adjusted),
      driftBadge(test.verdict),
    ]),
    t("quality.tests"),
  );
}

/** The text of a key, or the name itself where there is none. */
function words(key, name) {
  return has(key) ? t(key) : name;
}
