// Series over time: axes with units, gaps where nothing was observed, a read-out under the pointer or the arrow keys.

import { h, s, fill, put, uniqueId } from "../core/dom.js";
import { clock, NONE, tick } from "../core/format.js";
import { t } from "../core/i18n.js";
import { newest } from "../core/live.js";
import { linear, ticks, timeTicks } from "./scales.js";

const HEIGHT = 172;
const MARGIN = { top: 10, right: 12, bottom: 22 };
const CHARACTER = 6.6;
const charts = new Set();
/** What all charts point at: the time, and the chart that was asked; null: nothing. */
let cursor = null;

/**
 * A chart of several series.
 * `series`: `{ label, tone, dashed, area }`; `format`: writes a value with its unit; `binary`: ticks in powers of two;
 * `top`: the axis reaches at least so far; `most`: it never goes beyond; `mark`: `{ value, label }`, a level to compare
 * with; `bridge`: so many empty points do not break a line, for what is observed less often than the points are.
 */
export function lineChart({
  title,
  hint,
  series,
  format,
  binary = false,
  top = 0,
  most = Infinity,
  mark = null,
  bridge = 0,
  wide = false,
}) {
  return new LineChart({ title, hint, series, format, binary, top, most, mark, bridge, wide });
}

class LineChart {
  constructor(options) {
    Object.assign(this, options);
    this.times = [];
    this.values = this.series.map(() => []);
    this.width = 0;
    const heading = uniqueId("chart");
    this.readings = this.series.map(() => h("span", { class: "legend-value" }));
    this.legend = h(
      "ul",
      { class: "legend" },
      this.series.map(({ label, tone, dashed }, number) =>
        h(
          "li",
          {},
          h("i", { class: `key tone-${tone}${dashed ? " dashed" : ""}` }),
          h("span", {}, label),
          this.readings[number],
        ),
      ),
    );
    this.canvas = s("svg", { class: "plot", role: "img", tabindex: "0", "aria-labelledby": heading, height: HEIGHT });
    this.tip = h("div", { class: "tip", hidden: true, role: "status" });
    this.empty = h("p", { class: "plot-empty" }, t("chart.empty"));
    this.frame = h("div", { class: "frame" }, this.canvas, this.tip, this.empty);
    this.root = h(
      "section",
      { class: `card chart${this.wide ? " wide" : ""}` },
      h("header", {}, h("h3", { id: heading }, this.title), this.hint ? h("p", { class: "hint" }, this.hint) : null),
      this.legend,
      this.frame,
    );
    this.listen();
    this.observer = new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width === this.width) return;
      this.width = width;
      this.draw();
    });
    this.observer.observe(this.frame);
    charts.add(this);
  }

  listen() {
    this.canvas.addEventListener("pointermove", (event) =>
      this.point(event.clientX - this.canvas.getBoundingClientRect().left),
    );
    this.canvas.addEventListener("pointerleave", () => this.select(null));
    this.canvas.addEventListener("blur", () => this.select(null));
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") this.select(null);
      if (!step || !this.times.length) return;
      event.preventDefault();
      const from = cursor?.chart === this ? this.nearest(cursor.time) : step > 0 ? -1 : this.times.length;
      this.select(Math.min(this.times.length - 1, Math.max(0, from + step)));
    });
  }

  /** New points: times, and one list for each series. */
  update(times, values) {
    this.times = times;
    this.values = values;
    this.readings.forEach((element, number) => {
      const value = newest(values[number]);
      element.textContent = value === null ? NONE : this.format(value);
    });
    this.draw();
  }

  draw() {
    if (!this.width || !this.root.isConnected) return;
    const numbers = this.values.flat().filter((value) => value !== null && value !== undefined);
    const shown = numbers.length > 0 && this.times.length > 1;
    this.empty.hidden = shown;
    this.canvas.setAttribute("width", this.width);
    this.canvas.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    if (!shown) {
      fill(this.canvas);
      this.marker = null;
      this.tip.hidden = true;
      return;
    }
    const high =
      Math.min(
        this.most,
        Math.max(this.top, ...numbers, this.mark && this.mark.value <= this.top * 4 ? this.mark.value : 0),
      ) || 1;
    const levels = ticks(0, high, 3, this.binary).filter((level) => level <= this.most * 1.0001);
    const highest = levels.at(-1);
    const names = levels.map((level) => tick(this.format, level));
    const left = Math.max(...names.map((name) => textWidth(name))) + 12;
    this.x = linear(this.times[0], this.times.at(-1), left, this.width - MARGIN.right);
    this.y = linear(0, highest, HEIGHT - MARGIN.bottom, MARGIN.top);
    this.marker = s("g", { class: "cursor" });
    fill(
      this.canvas,
      this.grid(levels, names, left),
      this.clocks(left),
      this.marked(left, highest),
      this.series.map((each, number) => this.line(each, this.values[number] ?? [])),
      this.marker,
    );
    this.pointed();
  }

  grid(levels, names, left) {
    return levels.map((level, number) => {
      const y = Math.round(this.y(level)) + 0.5;
      return [
        s("line", { class: level === 0 ? "axis" : "rule", x1: left, x2: this.width - MARGIN.right, y1: y, y2: y }),
        s("text", { class: "tick", x: left - 8, y: y + 4, "text-anchor": "end" }, names[number]),
      ];
    });
  }

  clocks(left) {
    const room = Math.max(2, Math.floor((this.width - left) / 90));
    const { times, seconds } = timeTicks(this.times[0], this.times.at(-1), room);
    return times.map((at) => {
      const x = this.x(at);
      const anchor = x < left + 18 ? "start" : x > this.width - 30 ? "end" : "middle";
      return s("text", { class: "tick", x, y: HEIGHT - 5, "text-anchor": anchor }, clock(at, seconds));
    });
  }

  marked(left, highest) {
    if (!this.mark || this.mark.value > highest) return [];
    const y = Math.round(this.y(this.mark.value)) + 0.5;
    return [
      s("line", { class: "mark", x1: left, x2: this.width - MARGIN.right, y1: y, y2: y }),
      s("text", { class: "tick", x: this.width - MARGIN.right, y: y - 4, "text-anchor": "end" }, this.mark.label),
    ];
  }

  line({ tone, dashed, area }, values) {
    const runs = [];
    let run = null;
    let missed = 0;
    values.forEach((value, number) => {
      if (value === null || value === undefined) {
        missed += 1;
        if (missed > this.bridge) run = null;
        return;
      }
      missed = 0;
      if (run === null) runs.push((run = []));
      run.push([this.x(this.times[number]).toFixed(1), this.y(Math.min(value, this.most)).toFixed(1)]);
    });
    const path = runs
      .map((points) => `M${points.map((point) => point.join(" ")).join("L")}${points.length === 1 ? "h0" : ""}`)
      .join("");
    const ground = this.y(0);
    const below = runs.map(
      (points) =>
        `M${points[0][0]} ${ground}L${points.map((point) => point.join(" ")).join("L")}L${points.at(-1)[0]} ${ground}Z`,
    );
    return [
      area ? s("path", { class: `area tone-${tone}`, d: below.join("") }) : null,
      s("path", { class: `line tone-${tone}${dashed ? " dashed" : ""}`, d: path }),
    ];
  }

  point(x) {
    if (this.marker && this.times.length > 1)
      this.select(
        this.nearest(linear(this.x(this.times[0]), this.x(this.times.at(-1)), this.times[0], this.times.at(-1))(x)),
      );
  }

  nearest(time) {
    let best = 0;
    this.times.forEach((at, number) => {
      if (Math.abs(at - time) < Math.abs(this.times[best] - time)) best = number;
    });
    return best;
  }

  /** Point at one of the times; null points at nothing. Every chart shows where that is. */
  select(at) {
    cursor = at === null ? null : { time: this.times[at], chart: this };
    for (const chart of charts) {
      if (chart.root.isConnected) chart.pointed();
      else chart.close();
    }
  }

  /** Draw what is pointed at; the chart that was asked also reads it out. */
  pointed() {
    if (cursor !== null && !cursor.chart.root.isConnected) cursor = null; // its view was left
    const own = cursor?.chart === this;
    this.tip.hidden = !own || !this.marker;
    if (!this.marker) return;
    fill(this.marker);
    if (cursor === null || cursor.time < this.times[0] || cursor.time > this.times.at(-1)) {
      this.tip.hidden = true;
      return;
    }
    const at = this.nearest(cursor.time);
    const x = Math.round(this.x(this.times[at])) + 0.5;
    put(this.marker, s("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
    if (!own) return;
    this.series.forEach(({ tone }, number) => {
      const value = this.values[number]?.[at];
      if (value !== null && value !== undefined)
        put(this.marker, s("circle", { class: `tone-${tone}`, cx: x, cy: this.y(value), r: 3.5 }));
    });
    fill(
      this.tip,
      h("time", {}, clock(this.times[at], true)),
      this.series.map(({ label, tone }, number) =>
        h(
          "div",
          {},
          h("i", { class: `key tone-${tone}` }),
          h("span", {}, label),
          h("b", {}, this.format(this.values[number]?.[at] ?? null)),
        ),
      ),
    );
    const right = x > this.width / 2;
    this.tip.style.left = right ? "auto" : `${x + 12}px`;
    this.tip.style.right = right ? `${this.width - x + 12}px` : "auto";
  }

  close() {
    this.observer.disconnect();
    charts.delete(this);
  }
}

function textWidth(text) {
  return [...text].reduce((sum, letter) => sum + (letter.codePointAt(0) > 0x2e80 ? 11 : CHARACTER), 0);
}
