// How good a model's answers are: drift against the training data, what it answers, how sure it is, what labels say.

import { columns as columnChart, labelBars, shares } from "../charts/bars.js";
import { intervalRow } from "../charts/interval.js";
import { lineChart } from "../charts/lines.js";
import { h, fill } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { within } from "../core/live.js";
import { card, empty, facts, select } from "../parts/cards.js";
import { driftTable } from "./drift_table.js";

export function qualityView(context) {
  const body = h("div", { class: "grid" }, h("section", { class: "card wide" }, h("div", { class: "skeleton" })));
  const chooser = h("div", { class: "chooser" });
  const root = h("div", { class: "view" }, chooser, body);
  let key = context.argument;
  let panel = null;
  let known = "";

  function choose(next) {
    key = next;
    panel = null;
    history.replaceState(null, "", `#quality/${encodeURIComponent(next)}`);
    if (context.live.data) update(context.live.data);
  }

  function update(data) {
    const { monitor } = data;
    if (monitor === null) {
      fill(body, empty(t("unwatched.title"), t("unwatched")));
      return;
    }
    const keys = monitor.models.map(({ name, version }) => `${name}/${version}`);
    if (!keys.length) {
      fill(body, empty(t("overview.noModels"), t("overview.noModelsHow")));
      return;
    }
    if (!keys.includes(key)) {
      key = keys.find((each) => each.startsWith(`${key}/`)) ?? keys[0];
      panel = null;
    }
    if (known !== `${keys.join()} ${key}`) {
      known = `${keys.join()} ${key}`;
      fill(
        chooser,
        h(
          "label",
          {},
          h("span", {}, t("column.model")),
          select(
            keys.map((each) => [each, each]),
            key,
            choose,
            t("column.model"),
          ),
        ),
      );
    }
    const model = monitor.models.find(({ name, version }) => `${name}/${version}` === key);
    if (model.quality === null) {
      fill(body, empty(t("quality.off"), t("quality.offHow")));
      return;
    }
    if (panel === null) {
      panel = qualityPanel();
      fill(body, panel.roots);
    }
    panel.update(model, within(monitor.history, context.range()), key);
  }

  return { root, update };
}

function qualityPanel() {
  const summary = card(t("quality.summary"));
  const live = card(t("quality.live"), { hint: t("quality.liveHint") });
  const drift = card(t("quality.drift"), { wide: true, hint: t("quality.driftHint") });
  const answers = card(t("quality.answers"));
  const confidence = card(t("quality.confidence"), { hint: t("quality.confidenceHint") });
  const effect = lineChart({
    title: t("quality.effect"),
    hint: t("quality.effectHint"),
    format: format.plain,
    top: 1.2,
    mark: { value: 1, label: t("quality.threshold") },
    series: [{ label: t("series.drift"), tone: 2 }],
  });
  const score = lineChart({
    title: t("quality.meanConfidence"),
    format: format.score,
    top: 1,
    most: 1,
    bridge: 3,
    series: [{ label: t("series.confidence"), tone: 1 }],
  });
  let histogram = null;
  const table = driftTable();
  return {
    roots: [summary.root, live.root, drift.root, answers.root, confidence.root, effect.root, score.root],
    update(model, history, key) {
      const { quality } = model;
      const series = history.models[key];
      fill(summary.body, summaryFacts(quality));
      fill(live.body, liveScores(quality));
      fill(drift.body, driftBody(quality, table));
      fill(answers.body, answersBody(quality));
      const counts = quality.confidence.counts;
      if (counts.some(Boolean)) {
        const bins = quality.confidence.bounds.map((bound) => `≤${format.plain(bound).replace(/0+$/, "")}`);
        histogram ??= columnChart({ bins, values: [], title: t("quality.confidence") });
        histogram.update({ bins, values: shares(counts).slice(0, bins.length) });
        if (!histogram.root.isConnected) fill(confidence.body, histogram.root);
      } else fill(confidence.body, empty(t("quality.noScores"), t("quality.noScoresWhy")));
      effect.root.hidden = !quality.reference;
      effect.update(history.times, [series?.drift ?? []]);
      score.root.hidden = !counts.some(Boolean);
      score.update(history.times, [series?.confidence ?? []]);
    },
  };
}

function summaryFacts(quality) {
  const { labels } = quality;
  const sent = Object.values(labels).reduce((sum, each) => sum + each, 0);
  return facts([
    [t("quality.rows"), format.count(quality.rows)],
    [t("quality.meanConfidence"), quality.mean_confidence === null ? null : format.score(quality.mean_confidence)],
    [t("quality.window"), quality.drift?.rows ? format.count(quality.drift.rows) : null],
    [t("quality.counting"), quality.drift ? format.count(quality.drift.counting) : null],
    [t("quality.leftOut"), quality.drift?.left_out ? format.count(quality.drift.left_out) : null],
    [t("quality.failures"), quality.failures ? format.count(quality.failures) : null],
    [
      t("quality.labels"),
      sent
        ? Object.entries(labels)
            .filter(([, each]) => each)
            .map(([name, each]) => `${format.count(each)} ${t(`labels.${name}`)}`)
            .join(" · ")
        : t("quality.noLabels"),
    ],
  ]);
}

function liveScores({ live, reference_accuracy: expected }) {
  if (!live.labels) return empty(t("quality.noLabels"), t("quality.noLabelsHow"));
  const rows = [];
  if (live.accuracy) rows.push(intervalRow(t("quality.accuracy"), live.accuracy, { reference: expected }));
  if (live.auc) rows.push(intervalRow("ROC AUC", live.auc, { low: 0.5 }));
  if (live.brier) rows.push(intervalRow(t("quality.brier"), live.brier, { high: 0.5 }));
  if (live.overconfidence)
    rows.push(intervalRow(t("quality.overconfidence"), live.overconfidence, { low: -0.5, high: 0.5 }));
  const error = live.absolute_error;
  if (error)
    rows.push(
      intervalRow(t("quality.error"), error, { high: Math.max(error.upper * 1.5, 1e-9), format: format.plain }),
    );
  return [h("p", { class: "hint" }, t("quality.over", { labels: format.count(live.labels) })), rows];
}

function driftBody(quality, table) {
  if (!quality.reference) return empty(t("quality.noReference"), t("quality.noReferenceHow"));
  if (!quality.drift.columns.length)
    return empty(t("quality.noVerdict"), t("quality.noVerdictWhy", { rows: format.count(quality.drift.counting) }));
  return table.update(quality.drift);
}

function answersBody(quality) {
  const column = quality.drift?.columns.find(({ side }) => side === "prediction");
  if (column?.shares) {
    const { bins, reference, live } = column.shares;
    return [
      h(
        "p",
        { class: "hint legend-line" },
        h("i", { class: "key tone-1" }),
        t("quality.now"),
        " ",
        h("i", { class: "key tone-0" }),
        t("quality.trained"),
      ),
      labelBars(
        bins.map((label, at) => ({
          label,
          value: live[at],
          other: reference[at],
          text: `${format.share(live[at])} / ${format.share(reference[at])}`,
        })),
        { compare: true },
      ),
    ];
  }
  const { answers } = quality;
  if (!answers) return empty(t("quality.noAnswers"), t("quality.noAnswersWhy"));
  const note = h("p", { class: "hint" }, t("quality.lastAnswers", { rows: format.count(answers.rows) }));
  if (answers.kind === "numbers") {
    const bins = answers.counts.map((_, at) => format.plain(answers.edges[at]));
    return [note, columnChart({ bins, values: shares(answers.counts), title: t("quality.answers") }).root];
  }
  const sum = answers.labels.reduce((total, { count }) => total + count, answers.others) || 1;
  const rows = answers.labels.map(({ label, count }) => ({ label, value: count / sum }));
  if (answers.others) rows.push({ label: t("quality.others"), value: answers.others / sum, tone: 0 });
  return [note, labelBars(rows)];
}
