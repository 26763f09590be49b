// Answers as people read them: bars for classes, marks in a text for spans, vectors in short, numbers large.

import { labelBars } from "../charts/bars.js";
import { h, s } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { facts, table } from "../parts/cards.js";
import { copyButton } from "../parts/dialogs.js";

const MOST_BARS = 12;
const LONG = 8;

/** All answers, one below the other, and the JSON. */
export function answerOf(signature, inputs, outputs) {
  const text = JSON.stringify(outputs, null, 2);
  const shown = outputs.map((output, at) =>
    h(
      "article",
      { class: "answer" },
      outputs.length > 1 ? h("h4", {}, t("play.row", { number: at + 1 })) : null,
      one(signature, inputs[at], output),
    ),
  );
  const vectors = outputs.map((output) => Object.values(output).find(isVector)).filter(Boolean);
  return [
    shown,
    vectors.length > 1 && vectors.length === outputs.length ? similarity(vectors) : null,
    h(
      "details",
      { class: "raw" },
      h("summary", {}, "JSON"),
      copyButton(() => text),
      h("pre", { tabindex: "0" }, text.length > 40000 ? `${text.slice(0, 40000)}…` : text),
    ),
  ];
}

function one(signature, input, output) {
  if (Array.isArray(output.starts) && Array.isArray(output.ends)) return spans(textOf(input), output);
  if (typeof output.label === "string") return classes(signature.labels, output);
  if (Array.isArray(output.labels) && Array.isArray(output.scores)) return severalClasses(signature.labels, output);
  if (typeof output.filled === "string" && Array.isArray(output.tokens)) return filled(output);
  if (typeof output.text === "string") return written(output);
  if (typeof output.value === "number") return h("p", { class: "value" }, format.plain(output.value));
  return facts(Object.entries(output).map(([name, value]) => [name, anything(value)]));
}

function textOf(input) {
  return typeof input === "string" ? input : (Object.values(input).find((value) => typeof value === "string") ?? "");
}

function ranked(names, scores) {
  const rows = scores.map((value, at) => ({
    label: names[at] ?? t("play.class", { number: at }),
    value,
    text: format.share(value),
  }));
  return rows.sort((a, b) => b.value - a.value).slice(0, MOST_BARS);
}

function classes(names, { label, score, scores, ...rest }) {
  const known = Array.isArray(scores) && names.length === scores.length;
  const rows = known
    ? ranked(names, scores).map((row) => ({ ...row, strong: row.label === label, tone: row.label === label ? 1 : 0 }))
    : [{ label, value: score ?? 0, text: format.share(score), strong: true }];
  return [
    h(
      "p",
      { class: "verdict" },
      h("b", {}, label),
      typeof score === "number" ? h("span", {}, format.share(score)) : null,
    ),
    labelBars(rows),
    others(rest),
  ];
}

function severalClasses(names, { labels, scores, ...rest }) {
  const chosen = new Set(labels);
  const rows = ranked(names, scores).map((row) => ({
    ...row,
    strong: chosen.has(row.label),
    tone: chosen.has(row.label) ? 1 : 0,
  }));
  return [
    h("p", { class: "verdict" }, h("b", {}, labels.length ? labels.join(", ") : t("play.noLabel"))),
    labelBars(rows),
    others(rest),
  ];
}

function others(rest) {
  const entries = Object.entries(rest).filter(([, value]) => value !== null);
  return entries.length ? facts(entries.map(([name, value]) => [name, anything(value)])) : null;
}

function spans(text, { starts, ends, labels, scores }) {
  const letters = Array.from(text); // spans count characters as Python does, not UTF-16 units
  const kinds = [...new Set(labels)];
  const tone = (label) => (kinds.indexOf(label) % 6) + 1;
  const parts = [];
  let at = 0;
  starts
    .map((start, number) => ({ start, end: ends[number], label: labels[number], score: scores?.[number] }))
    .sort((a, b) => a.start - b.start)
    .forEach(({ start, end, label, score }) => {
      if (start < at) return; // spans that overlap another are in the JSON
      parts.push(letters.slice(at, start).join(""));
      parts.push(
        h(
          "mark",
          { class: `span tone-${tone(label)}`, title: score === undefined ? label : `${label} ${format.share(score)}` },
          letters.slice(start, end).join(""),
          h("sup", {}, label),
        ),
      );
      at = end;
    });
  parts.push(letters.slice(at).join(""));
  return [h("p", { class: "spans" }, parts), starts.length ? null : h("p", { class: "hint" }, t("play.noSpan"))];
}

function filled({ filled: text, tokens, scores }) {
  return [
    h("p", { class: "verdict" }, h("b", {}, text)),
    tokens.map((row, at) => [
      tokens.length > 1 ? h("h4", {}, t("play.mask", { number: at + 1 })) : null,
      labelBars(row.map((label, rank) => ({ label, value: scores[at][rank], tone: rank ? 0 : 1 }))),
    ]),
  ];
}

function written({ text, ...rest }) {
  return [h("p", { class: "written" }, text), others(rest)];
}

function isVector(value) {
  return Array.isArray(value) && value.length > LONG && value.every((each) => typeof each === "number");
}

function anything(value) {
  if (isVector(value)) return vector(value);
  if (typeof value === "number") return format.plain(value);
  if (typeof value === "string")
    return value.length > 400
      ? `${value.slice(0, 400)}… (${t("play.characters", { count: format.count(value.length) })})`
      : value;
  if (value === null || typeof value === "boolean") return String(value);
  const text = JSON.stringify(value);
  return h("code", {}, text.length > 400 ? `${text.slice(0, 400)}…` : text);
}

function vector(values) {
  const norm = Math.sqrt(values.reduce((sum, each) => sum + each * each, 0));
  const mean = values.reduce((sum, each) => sum + each, 0) / values.length;
  return h(
    "div",
    { class: "vector" },
    stripes(values),
    h(
      "p",
      { class: "hint" },
      t("play.vector", {
        size: values.length,
        norm: format.plain(norm),
        mean: format.plain(mean),
        low: format.plain(Math.min(...values)),
        high: format.plain(Math.max(...values)),
      }),
    ),
    h(
      "p",
      {},
      h(
        "code",
        {},
        `[${values
          .slice(0, 6)
          .map((each) => each.toFixed(4))
          .join(", ")}, …]`,
      ),
      " ",
      copyButton(() => JSON.stringify(values)),
    ),
  );
}

function stripes(values) {
  const most = Math.max(...values.map(Math.abs)) || 1;
  const step = 512 / values.length;
  return s(
    "svg",
    { class: "stripes", viewBox: "0 0 512 56", preserveAspectRatio: "none", "aria-hidden": "true" },
    values.map((value, at) => {
      const size = (Math.abs(value) / most) * 27;
      return s("rect", {
        class: value < 0 ? "tone-2" : "tone-1",
        x: at * step,
        width: Math.max(step * 0.8, 0.5),
        y: value < 0 ? 28 : 28 - size,
        height: size,
      });
    }),
  );
}

function similarity(vectors) {
  const norm = (values) => Math.sqrt(values.reduce((sum, each) => sum + each * each, 0)) || 1;
  const cosine = (a, b) => a.reduce((sum, each, at) => sum + each * b[at], 0) / (norm(a) * norm(b));
  return [
    h("h4", {}, t("play.cosines")),
    table(
      [{ title: "" }, ...vectors.map((_, at) => ({ title: String(at + 1), number: true }))],
      vectors.map((row, at) => [
        h("b", {}, String(at + 1)),
        ...vectors.map((column) => format.score(cosine(row, column))),
      ]),
      t("play.cosines"),
    ),
  ];
}
