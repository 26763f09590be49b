// Usage by day, key and model: a chart, a table, and the same as CSV.

import { stacks } from "../charts/bars.js";
import { json, send } from "../core/api.js";
import { h, fill, put } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { card, choice, empty, failure, select, table } from "../parts/cards.js";
import { icon } from "../parts/icons.js";

const MOST_KEYS = 5;
const MOST_ROWS = 200;
const MEASURES = ["requests", "inferences", "input_tokens", "output_tokens", "refused"];

/** The card; `reload()` asks again. */
export function usageCard() {
  let days = 30;
  let measure = "requests";
  let rows = [];
  const download = h("button", { type: "button", onclick: () => save() }, icon("download"), "CSV");
  const box = card(t("usage.title"), {
    wide: true,
    actions: [
      select(
        MEASURES.map((each) => [each, t(`usage.${each}`)]),
        measure,
        (value) => {
          measure = value;
          draw();
        },
        t("usage.measure"),
      ),
      choice(
        [
          [7, t("usage.days", { days: 7 })],
          [30, t("usage.days", { days: 30 })],
          [90, t("usage.days", { days: 90 })],
        ],
        days,
        (value) => {
          days = value;
          reload();
        },
        t("range"),
      ),
      download,
    ],
  });
  const chart = stacks({ title: t("usage.title") });

  const query = () => {
    const last = new Date();
    const first = new Date(last.getTime() - (days - 1) * 86400e3);
    return `from=${iso(first)}&to=${iso(last)}`;
  };

  async function reload() {
    try {
      ({ usage: rows } = await json(`admin/usage?${query()}`));
      draw();
    } catch (error) {
      fill(box.body, failure(t("usage.unread"), error));
    }
  }

  async function save() {
    try {
      const content = await (await send(`admin/usage?format=csv&${query()}`)).blob();
      const url = URL.createObjectURL(content);
      h("a", { href: url, download: `usage-${iso(new Date())}.csv` }).click();
      URL.revokeObjectURL(url);
    } catch (error) {
      put(box.body, failure(t("usage.unread"), error));
    }
  }

  function draw() {
    if (!rows.length) {
      fill(box.body, empty(t("usage.none"), t("usage.noneHow")));
      return;
    }
    const { names, byDay } = summed(rows, measure, days);
    chart.update(byDay);
    fill(
      box.body,
      h(
        "ul",
        { class: "legend" },
        names.map((name, at) =>
          h("li", {}, h("i", { class: `key tone-${at < MOST_KEYS ? at + 1 : 0}` }), h("span", {}, name)),
        ),
      ),
      chart.root,
      table(
        [
          { title: t("column.day") },
          { title: t("column.key") },
          { title: t("column.model") },
          ...MEASURES.map((each, at) => ({
            title: t(`usage.${each}`),
            number: true,
            narrow: at === 0 || each === measure ? undefined : false,
          })),
        ],
        [...rows]
          .reverse()
          .slice(0, MOST_ROWS)
          .map((row) => [
            h("span", { class: "whole" }, row.day),
            row.key_name || h("code", {}, row.key_id),
            row.model,
            ...MEASURES.map((each) => format.count(row[each])),
          ]),
        t("usage.title"),
      ),
      rows.length > MOST_ROWS
        ? h("p", { class: "hint" }, t("usage.more", { count: format.count(rows.length - MOST_ROWS) }))
        : null,
    );
  }

  reload();
  return { root: box.root, reload };
}

/** Each day's sums by key; the keys that used most have a colour, the rest share one. */
function summed(rows, measure, days) {
  const totals = new Map();
  for (const row of rows)
    totals.set(row.key_id, {
      name: row.key_name || row.key_id,
      sum: (totals.get(row.key_id)?.sum ?? 0) + row[measure],
    });
  const order = [...totals].sort(([, a], [, b]) => b.sum - a.sum);
  const tones = new Map(order.map(([id], at) => [id, at < MOST_KEYS ? at : MOST_KEYS]));
  const names = [
    ...order.slice(0, MOST_KEYS).map(([, { name }]) => name),
    ...(order.length > MOST_KEYS ? [t("usage.others")] : []),
  ];
  const byDay = Array.from({ length: days }, (_, at) => {
    const date = iso(new Date(Date.now() - (days - 1 - at) * 86400e3));
    const parts = names.map((_, tone) => ({ tone: tone < MOST_KEYS ? tone + 1 : 0, value: 0 }));
    for (const row of rows) if (row.day === date) parts[tones.get(row.key_id)].value += row[measure];
    return { name: format.day(date), parts };
  });
  return { names, byDay };
}

/** A day in UTC, in which usage is counted. */
function iso(date) {
  return date.toISOString().slice(0, 10);
}
