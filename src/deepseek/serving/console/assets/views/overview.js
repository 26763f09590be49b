// How the server is, at a glance: figures, alerts that burn, traffic, models.

import { lineChart } from "../charts/lines.js";
import { spark } from "../charts/spark.js";
import { h, fill } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { newest, within } from "../core/live.js";
import { badge, card, empty, facts, figure, table } from "../parts/cards.js";
import { alertList } from "../parts/alerts.js";
import { driftBadge, worstDrift } from "../parts/drift.js";
import { modelState } from "../parts/states.js";

export function overviewView(context) {
  const figures = {
    rate: figure(t("overview.rate"), 1),
    latency: figure(t("overview.latency"), 3),
    errors: figure(t("overview.errors"), 2),
    flight: figure(t("overview.flight"), 4),
    cpu: figure(t("overview.cpu"), 5),
    memory: figure(t("overview.memory"), 6),
    gpu: figure(t("overview.gpu"), 1),
  };
  figures.gpu.root.hidden = true;
  const alerts = card(t("overview.alerts"));
  const models = card(t("overview.models"), { wide: true });
  const about = card(t("overview.server"));
  const traffic = lineChart({
    title: t("stability.rate"),
    format: format.rate,
    wide: true,
    top: 1,
    series: [
      { label: t("series.requests"), tone: 1, area: true },
      { label: t("series.failed"), tone: 2 },
      { label: t("series.refused"), tone: 3, dashed: true },
    ],
  });
  const lines = new Map();
  const root = h(
    "div",
    { class: "view" },
    h(
      "div",
      { class: "figures" },
      Object.values(figures).map((each) => each.root),
    ),
    h("div", { class: "grid" }, traffic.root, models.root, alerts.root, about.root),
  );
  const waiting = [models, alerts, about];
  for (const each of waiting) fill(each.body, h("div", { class: "skeleton" }));

  function update(data) {
    const { monitor, server } = data;
    fill(about.body, serverFacts(data));
    if (monitor === null) {
      for (const each of Object.values(figures)) each.root.hidden = true;
      fill(alerts.body, empty(t("unwatched.title")));
      fill(models.body, modelTable(data, null, lines, context));
      return;
    }
    const history = within(monitor.history, context.range());
    const series = history.server;
    const machine = monitor.resources.machine;
    const failed = errorShare(series);
    figures.rate.update(
      format.rate(newest(series.request_rate)),
      series.request_rate,
      t("overview.rows", { rate: format.plain(newest(series.row_rate)) }),
    );
    figures.latency.update(
      format.seconds(newest(series.p95)),
      series.p95,
      t("overview.median", { time: format.seconds(newest(series.p50)) }),
    );
    figures.errors.update(
      format.share(failed),
      series.error_rate,
      t("overview.overRange", { span: t(`range.${context.range()}`) }),
      failed > 0.01 ? "bad" : "",
    );
    figures.flight.update(
      format.count(monitor.in_flight),
      series.in_flight,
      t("overview.waiting", { rows: format.count(newest(series.queue_rows) ?? 0) }),
    );
    figures.cpu.update(
      format.share(newest(series.host_cpu)),
      series.host_cpu,
      t("overview.process", { cpus: format.plain(newest(series.process_cpu)) }),
    );
    const used = machine ? machine.memory_used / machine.memory_limit : null;
    figures.memory.update(
      format.bytes(newest(series.resident)),
      series.resident,
      machine ? t("overview.host", { share: format.share(used) }) : "",
      used > 0.9 ? "bad" : "",
    );
    figures.gpu.root.hidden = !monitor.resources.gpus.length;
    figures.gpu.update(
      format.share(newest(series.gpu_utilization)),
      series.gpu_utilization,
      format.bytes(newest(series.gpu_memory_used)),
    );
    traffic.update(history.times, [series.request_rate, series.error_rate, series.refusal_rate]);
    fill(alerts.body, alertList(monitor, server.now));
    fill(models.body, modelTable(data, history, lines, context));
  }

  return { root, update };
}

/** The share of requests that ended with a server error, over all points; null without a request. */
function errorShare(series) {
  const sum = (values) => (values ?? []).reduce((total, value) => total + (value ?? 0), 0);
  const all = sum(series?.request_rate);
  return all ? sum(series.error_rate) / all : null;
}

function serverFacts({ server, monitor }) {
  return facts([
    [t("fact.version"), server.version],
    [t("fact.uptime"), monitor ? format.span(monitor.now - monitor.started) : null],
    [t("fact.started"), monitor ? format.moment(monitor.started) : null],
    [t("fact.python"), server.python],
    [t("fact.system"), server.system],
    [t("fact.keys"), t(server.keys ? "fact.keysOn" : "fact.keysOff")],
  ]);
}

function modelTable(data, history, lines, context) {
  const watched = new Map((data.monitor?.models ?? []).map((model) => [`${model.name}/${model.version}`, model]));
  const loaded = data.repository.filter(({ version }) => version);
  if (!loaded.length) return empty(t("overview.noModels"), t("overview.noModelsHow"));
  return table(
    [
      { title: t("column.model") },
      { title: t("column.state") },
      { title: t("column.task"), narrow: false },
      { title: t("column.rate"), number: true },
      { title: "", narrow: false },
      { title: t("column.p95"), number: true },
      { title: t("column.errors"), number: true, narrow: false },
      { title: t("column.drift") },
    ],
    loaded.map((entry) => {
      const key = `${entry.name}/${entry.version}`;
      const model = watched.get(key);
      const series = history?.models[key];
      if (!lines.has(key)) lines.set(key, spark({ tone: 1, width: 110, height: 22 }));
      lines.get(key).update(series?.request_rate ?? []);
      return [
        h(
          "button",
          { type: "button", class: "link", onclick: () => context.navigate(`#quality/${encodeURIComponent(key)}`) },
          h("b", {}, entry.name),
          h("small", {}, ` ${entry.version}`),
        ),
        modelState(entry),
        data.signatures[key]?.task ?? model?.task ?? "",
        format.rate(newest(series?.request_rate)),
        lines.get(key).root,
        format.seconds(newest(series?.p95)),
        format.share(errorShare(series)),
        model?.quality?.reference ? driftBadge(worstDrift(model.quality)) : badge(t("drift.none"), "quiet"),
      ];
    }),
    t("overview.models"),
  );
}
