// What the server uses: processors, memory, disk, GPUs, the models' queues and batches, the event loop.

import { lineChart } from "../charts/lines.js";
import { h, fill } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { newest, within } from "../core/live.js";
import { card, empty, facts, factsAcross, meter, table } from "../parts/cards.js";

const MOST_LINES = 6;

export function resourcesView(context) {
  const cpu = lineChart({
    title: t("resources.cpu"),
    format: format.share,
    top: 1,
    series: [{ label: t("series.hostCpu"), tone: 1, area: true }],
  });
  const process = lineChart({
    title: t("resources.process"),
    hint: t("resources.processHint"),
    format: format.plain,
    top: 1,
    series: [{ label: t("series.processCpu"), tone: 4, area: true }],
  });
  const memory = lineChart({
    title: t("resources.memory"),
    format: format.bytes,
    binary: true,
    series: [{ label: t("series.memoryUsed"), tone: 5, area: true }],
  });
  const resident = lineChart({
    title: t("resources.resident"),
    format: format.bytes,
    binary: true,
    series: [{ label: t("series.resident"), tone: 6, area: true }],
  });
  const gpu = lineChart({
    title: t("resources.gpu"),
    format: format.share,
    top: 1,
    most: 1,
    series: [{ label: t("series.gpu"), tone: 4, area: true }],
  });
  const gpuMemory = lineChart({
    title: t("resources.gpuMemory"),
    format: format.bytes,
    binary: true,
    series: [{ label: t("series.gpuMemory"), tone: 6 }],
  });
  const queue = lineChart({
    title: t("resources.queue"),
    format: format.count,
    top: 4,
    series: [{ label: t("series.queue"), tone: 3, area: true }],
  });
  const batches = lineChart({
    title: t("resources.batches"),
    format: format.plain,
    top: 2,
    series: [{ label: t("series.batch"), tone: 1 }],
  });
  const busy = modelsChart();
  const lag = lineChart({
    title: t("resources.lag"),
    hint: t("resources.lagHint"),
    format: format.seconds,
    top: 0.005,
    series: [{ label: t("series.lag"), tone: 2 }],
  });
  const machine = card(t("resources.machine"), { wide: true });
  const gpus = card(t("resources.gpus"), { wide: true });
  const models = card(t("resources.models"), { wide: true });
  for (const each of [machine, models]) fill(each.body, h("div", { class: "skeleton" }));
  const onlyGpu = [gpus.root, gpu.root, gpuMemory.root];
  for (const each of onlyGpu) each.hidden = true;
  const root = h(
    "div",
    { class: "view" },
    h(
      "div",
      { class: "grid" },
      machine.root,
      cpu.root,
      process.root,
      memory.root,
      resident.root,
      onlyGpu,
      queue.root,
      batches.root,
      busy.root,
      lag.root,
      models.root,
    ),
  );

  function update(data) {
    const { monitor } = data;
    if (monitor === null) return;
    const history = within(monitor.history, context.range());
    const { times, server } = history;
    cpu.update(times, [server.host_cpu]);
    process.update(times, [server.process_cpu]);
    memory.update(times, [server.memory_used]);
    resident.update(times, [server.resident]);
    queue.update(times, [server.queue_rows]);
    batches.update(times, [server.batch_rows]);
    busy.update(history);
    lag.update(times, [server.loop_lag]);
    const found = monitor.resources.gpus;
    for (const each of onlyGpu) each.hidden = !found.length;
    if (found.length) {
      gpu.update(times, [server.gpu_utilization]);
      gpuMemory.update(times, [server.gpu_memory_used]);
      fill(gpus.body, h("div", { class: "gpus" }, found.map(gpuFacts)));
    }
    fill(machine.body, machineFacts(monitor.resources.machine));
    fill(models.body, modelTable(monitor, history));
  }

  return { root, update };
}

/** How busy each model's thread is; a new chart when models come or go. */
function modelsChart() {
  const root = h("div", { class: "holder" });
  let known = "";
  let chart = null;
  return {
    root,
    update({ times, models }) {
      const keys = Object.keys(models).sort().slice(0, MOST_LINES);
      if (known !== keys.join()) {
        known = keys.join();
        chart?.close();
        const series = keys.map((label, at) => ({ label, tone: at + 1, dashed: at % 2 === 1 }));
        chart = lineChart({
          title: t("resources.busy"),
          hint: t("resources.busyHint"),
          format: format.share,
          top: 1,
          most: 1,
          series,
        });
        fill(root, chart.root);
      }
      chart?.update(
        times,
        keys.map((key) => models[key].busy),
      );
    },
  };
}

function machineFacts(machine) {
  if (!machine) return empty(t("resources.unread"));
  return factsAcross([
    [
      t("fact.memory"),
      meter(
        machine.memory_used / machine.memory_limit,
        t("of", { used: format.bytes(machine.memory_used), limit: format.bytes(machine.memory_limit) }),
      ),
    ],
    [
      t("fact.disk"),
      meter(
        machine.disk_used / machine.disk_size,
        t("of", { used: format.bytes(machine.disk_used), limit: format.bytes(machine.disk_size) }),
      ),
    ],
    [t("fact.resident"), format.bytes(machine.resident)],
    [t("fact.threads"), format.count(machine.threads)],
    [t("fact.files"), machine.open_files === null ? null : format.count(machine.open_files)],
  ]);
}

function gpuFacts({ name, vendor, utilization, memory_used: used, memory_size: size, temperature, power }) {
  return h(
    "div",
    {},
    h("h4", {}, `${vendor} ${name}`),
    facts([
      [
        t("fact.utilization"),
        utilization === null ? null : meter(utilization, format.share(utilization), { calm: true }),
      ],
      [
        t("fact.memory"),
        used === null || size === null
          ? null
          : meter(used / size, t("of", { used: format.bytes(used), limit: format.bytes(size) })),
      ],
      [t("fact.temperature"), temperature === null ? null : `${format.plain(temperature)} °C`],
      [t("fact.power"), power === null ? null : `${format.plain(power)} W`],
    ]),
  );
}

function modelTable(monitor, history) {
  if (!monitor.models.length) return empty(t("overview.noModels"));
  return table(
    [
      { title: t("column.model") },
      { title: t("column.platform"), narrow: false },
      { title: t("column.busy") },
      { title: t("column.queue") },
      { title: t("column.batch"), number: true },
      { title: t("column.rows"), number: true },
      { title: t("column.tokens"), number: true, narrow: false },
    ],
    monitor.models.map((model) => {
      const series = history.models[`${model.name}/${model.version}`];
      const share = newest(series?.busy) ?? 0;
      return [
        h("span", {}, h("b", {}, model.name), h("small", {}, ` ${model.version}`)),
        model.platform,
        meter(share, format.share(share), { calm: true }),
        model.queue_limit
          ? meter(
              model.queued_rows / model.queue_limit,
              t("of", { used: format.count(model.queued_rows), limit: format.count(model.queue_limit) }),
            )
          : format.count(model.queued_rows),
        format.plain(newest(series?.batch_rows)),
        format.rate(newest(series?.row_rate)),
        model.output_tokens ? format.rate(newest(series?.output_token_rate)) : format.NONE,
      ];
    }),
    t("resources.models"),
  );
}
