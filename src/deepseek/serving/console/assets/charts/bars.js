// Shares as bars: one a label, or two beside each other to compare, and columns for histograms.

import { h, s, fill } from "../core/dom.js";
import { count, share, tick } from "../core/format.js";
import { ticks, linear } from "./scales.js";

/** Rows of a label, a bar and its number. `rows`: `{ label, value, tone, text, other }`; values from 0 to 1. */
export function labelBars(rows, { compare = false } = {}) {
  return h(
    "dl",
    { class: `bars${compare ? " compared" : ""}` },
    rows.map(({ label, value, tone = 1, text, other = null, strong = false }) => [
      h("dt", { title: label, class: strong ? "strong" : null }, label),
      h(
        "dd",
        {},
        h("span", { class: "track" }, bar(value, tone), compare ? bar(other ?? 0, 0) : null),
        h("span", { class: "amount" }, text ?? share(value)),
      ),
    ]),
  );
}

function bar(value, tone) {
  const element = h("i", { class: `bar tone-${tone}` });
  element.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
  return element;
}

const HEIGHT = 150;
const MARGIN = { top: 8, right: 4, bottom: 22, left: 44 };

/** Columns over bins. `bins`: names; `values`: shares from 0 to 1; `others`: shares to compare with, or null. */
export function columns({ bins, values, others = null, title }) {
  const root = s("svg", { class: "plot columns", role: "img", "aria-label": title, height: HEIGHT });
  const frame = h("div", { class: "frame" }, root);
  const state = { width: 0, bins, values, others };
  const draw = () => state.width && fill(root, ...drawn(root, state));
  new ResizeObserver(([entry]) => {
    state.width = Math.round(entry.contentRect.width);
    draw();
  }).observe(frame);
  return {
    root: frame,
    update(next) {
      Object.assign(state, next);
      draw();
    },
  };
}

function drawn(root, { width, bins, values, others }) {
  root.setAttribute("width", width);
  root.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const levels = ticks(0, Math.max(0.01, ...values, ...(others ?? [])), 3);
  const y = linear(0, levels.at(-1), HEIGHT - MARGIN.bottom, MARGIN.top);
  const step = (width - MARGIN.left - MARGIN.right) / bins.length;
  const every = Math.ceil(
    (bins.reduce((most, name) => Math.max(most, name.length), 1) * 6.6) / Math.max(step, 1) + 0.2,
  );
  const ground = y(0);
  const column = (value, x, size, kind) =>
    s("rect", {
      class: kind,
      x: x.toFixed(1),
      width: Math.max(1, size).toFixed(1),
      y: y(value).toFixed(1),
      height: (ground - y(value)).toFixed(1),
      rx: 1.5,
    });
  return [
    ...levels.flatMap((level) => {
      const at = Math.round(y(level)) + 0.5;
      return [
        s("line", { class: level === 0 ? "axis" : "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }),
        s("text", { class: "tick", x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, tick(share, level)),
      ];
    }),
    ...bins.flatMap((name, at) => {
      const x = MARGIN.left + at * step;
      const parts =
        others === null
          ? [column(values[at], x + step * 0.12, step * 0.76, "column tone-1")]
          : [
              column(others[at], x + step * 0.1, step * 0.38, "column tone-0"),
              column(values[at], x + step * 0.5, step * 0.38, "column tone-1"),
            ];
      const text = others === null ? share(values[at]) : `${share(others[at])} → ${share(values[at])}`;
      const label =
        at % every === 0
          ? s("text", { class: "tick", x: x + step / 2, y: HEIGHT - 6, "text-anchor": "middle" }, name)
          : null;
      return [s("g", {}, s("title", {}, `${name}: ${text}`), ...parts), label];
    }),
  ].filter(Boolean);
}

/** Counts as shares of their sum. */
export function shares(counts) {
  const sum = counts.reduce((total, each) => total + each, 0) || 1;
  return counts.map((each) => each / sum);
}

/** Stacked columns by day: `days`: `{ day, parts: [{ tone, value }] }`. */
export function stacks({ title, format = count }) {
  const root = s("svg", { class: "plot columns", role: "img", "aria-label": title, height: HEIGHT });
  const frame = h("div", { class: "frame" }, root);
  const state = { width: 0, days: [] };
  const draw = () => {
    const { width, days } = state;
    if (!width || !days.length) return fill(root);
    root.setAttribute("width", width);
    root.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const sums = days.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0));
    const levels = ticks(0, Math.max(1, ...sums), 3);
    const left = Math.max(...levels.map((level) => format(level).length)) * 6.6 + 12;
    const y = linear(0, levels.at(-1), HEIGHT - MARGIN.bottom, MARGIN.top);
    const step = (width - left - MARGIN.right) / days.length;
    const every = Math.ceil(58 / step);
    return fill(
      root,
      levels.map((level) => {
        const at = Math.round(y(level)) + 0.5;
        return [
          s("line", { class: level === 0 ? "axis" : "rule", x1: left, x2: width - MARGIN.right, y1: at, y2: at }),
          s("text", { class: "tick", x: left - 8, y: at + 4, "text-anchor": "end" }, format(level)),
        ];
      }),
      days.map(({ name, parts }, at) => {
        let below = 0;
        const x = left + at * step + step * 0.12;
        const rects = parts.map(({ tone, value }) => {
          const from = below;
          below += value;
          return s("rect", {
            class: `column tone-${tone}`,
            x: x.toFixed(1),
            width: Math.min(36, step * 0.76).toFixed(1),
            y: y(below).toFixed(1),
            height: Math.max(0, y(from) - y(below)).toFixed(1),
          });
        });
        const fits = at % every === 0 && left + at * step + 46 < width;
        const label = fits ? s("text", { class: "tick", x: left + at * step, y: HEIGHT - 6 }, name) : null;
        return s("g", {}, s("title", {}, `${name}: ${format(sums[at])}`), rects, label);
      }),
    );
  };
  new ResizeObserver(([entry]) => {
    state.width = Math.round(entry.contentRect.width);
    draw();
  }).observe(frame);
  return {
    root: frame,
    update(days) {
      state.days = days;
      draw();
    },
  };
}
