// How well requests are answered: rate, statuses, latency, load, and what is left of each objective's error budget.

import { lineChart } from "../charts/lines.js";
import { h, fill } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { within } from "../core/live.js";
import { badge, card, empty, meter, table } from "../parts/cards.js";

const WINDOWS = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"];
const FACTORS = { "5m": 14.4, "1h": 14.4, "30m": 6, "6h": 6, "2h": 3, "1d": 3, "3d": 1 };

export function stabilityView(context) {
  const rate = lineChart({
    title: t("stability.rate"),
    format: format.rate,
    top: 1,
    series: [{ label: t("series.requests"), tone: 1, area: true }],
  });
  const latency = lineChart({
    title: t("stability.latency"),
    hint: t("stability.latencyHint"),
    format: format.seconds,
    series: [
      { label: "p50", tone: 5 },
      { label: "p95", tone: 1 },
      { label: "p99", tone: 4, dashed: true },
    ],
  });
  const errors = lineChart({
    title: t("stability.errors"),
    format: format.rate,
    top: 0.2,
    series: [
      { label: t("series.failed"), tone: 2 },
      { label: t("series.refused"), tone: 3, dashed: true },
      { label: t("series.mistaken"), tone: 4 },
    ],
  });
  const flight = lineChart({
    title: t("stability.flight"),
    format: format.count,
    top: 4,
    series: [
      { label: t("series.flight"), tone: 1, area: true },
      { label: t("series.queue"), tone: 3 },
    ],
  });
  const saturation = lineChart({
    title: t("stability.saturation"),
    hint: t("stability.saturationHint"),
    format: format.share,
    top: 1,
    series: [
      { label: t("series.modelBusy"), tone: 1 },
      { label: t("series.queueFill"), tone: 3 },
      { label: t("series.hostCpu"), tone: 5, dashed: true },
    ],
  });
  const objectives = card(t("stability.objectives"), { hint: t("stability.objectivesHint"), wide: true });
  const statuses = card(t("stability.statuses"), { hint: t("stability.statusesHint") });
  fill(objectives.body, h("div", { class: "skeleton" }));
  fill(statuses.body, h("div", { class: "skeleton" }));
  const root = h(
    "div",
    { class: "view" },
    h(
      "div",
      { class: "grid" },
      rate.root,
      latency.root,
      errors.root,
      saturation.root,
      objectives.root,
      flight.root,
      statuses.root,
    ),
  );

  function update(data) {
    const { monitor } = data;
    fill(statuses.body, statusTable(data.requests));
    if (monitor === null) return;
    const { times, server } = within(monitor.history, context.range());
    rate.update(times, [server.request_rate]);
    latency.update(times, [server.p50, server.p95, server.p99]);
    errors.update(times, [server.error_rate, server.refusal_rate, server.client_error_rate ?? []]);
    flight.update(times, [server.in_flight, server.queue_rows]);
    const limit = monitor.models.reduce((sum, { queue_limit: each }) => sum + each, 0);
    const threads = Math.max(1, monitor.models.length);
    saturation.update(times, [
      server.busy.map((value) => (value === null ? null : value / threads)),
      server.queue_rows.map((value) => (value === null || !limit ? null : value / limit)),
      server.host_cpu,
    ]);
    fill(objectives.body, objectiveTable(monitor.stability.objectives));
  }

  return { root, update };
}

function objectiveTable(objectives) {
  if (!objectives.length) return empty(t("stability.noObjectives"));
  return table(
    [
      { title: t("column.objective") },
      { title: t("column.target"), number: true },
      { title: t("column.requests"), number: true, narrow: false },
      { title: t("column.bad"), number: true, narrow: false },
      { title: t("column.budget") },
      ...WINDOWS.map((window) => ({ title: window, number: true })),
    ],
    objectives.map((each) => {
      const { total, bad } = each.events;
      const left = total ? Math.max(0, 1 - bad / (total * (1 - each.target))) : 1;
      const kind =
        each.kind === "latency"
          ? t("stability.fasterThan", { time: format.seconds(each.threshold_seconds) })
          : t("stability.noServerError");
      return [
        h(
          "span",
          {},
          h("b", {}, each.name),
          h("small", { class: "below" }, each.operation === "*" ? kind : `${kind}, ${each.operation}`),
        ),
        format.share(each.target),
        format.count(total),
        format.count(bad),
        budget(left),
        ...WINDOWS.map((window) => burn(each.burn_rates[window], FACTORS[window])),
      ];
    }),
    t("stability.objectives"),
  );
}

function budget(left) {
  const element = meter(left, t("stability.left", { share: format.share(left) }));
  const bar = element.querySelector(".meter-fill");
  bar.className = `meter-fill ${left <= 0.1 ? "bad" : left <= 0.5 ? "warn" : "good"}`;
  return element;
}

function burn(rate, factor) {
  if (rate === null || rate === undefined)
    return h("span", { class: "hint", title: t("stability.tooFew") }, format.NONE);
  return rate > factor
    ? badge(`${format.plain(rate)}×`, "bad")
    : h("span", { class: rate > 1 ? "warn-text" : "" }, `${format.plain(rate)}×`);
}

function statusTable(requests) {
  if (!requests.length) return empty(t("stability.noRequests"));
  const codes = [...new Set(requests.map(([, , code]) => code))].sort();
  const rows = new Map();
  for (const [protocol, operation, code, amount] of requests) {
    const key = `${protocol} ${operation}`;
    if (!rows.has(key)) rows.set(key, {});
    rows.get(key)[code] = (rows.get(key)[code] ?? 0) + amount;
  }
  return table(
    [{ title: t("column.operation") }, ...codes.map((code) => ({ title: code, number: true }))],
    [...rows].map(([name, counts]) => [
      name,
      ...codes.map((code) => (counts[code] ? format.count(counts[code]) : h("span", { class: "hint" }, "0"))),
    ]),
    t("stability.statuses"),
  );
}
