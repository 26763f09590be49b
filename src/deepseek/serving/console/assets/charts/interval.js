// A score with its 95% interval on an axis from 0 to 1, beside what the bundle was written with.

import { h, s } from "../core/dom.js";
import { score } from "../core/format.js";
import { t } from "../core/i18n.js";

const WIDTH = 260;
const HEIGHT = 26;

/** One row: name, whisker, numbers. `estimate`: `{ value, lower, upper }`; `reference`: a level, or null. */
export function intervalRow(name, estimate, { reference = null, low = 0, high = 1, format = score } = {}) {
  const x = (value) => 6 + ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (WIDTH - 12);
  const middle = HEIGHT / 2;
  return h(
    "div",
    { class: "interval" },
    h("span", { class: "interval-name" }, name),
    s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "whisker", "aria-hidden": "true" },
      s("line", { class: "axis", x1: 6, x2: WIDTH - 6, y1: middle, y2: middle }),
      [low, (low + high) / 2, high].map((at) =>
        s("line", { class: "axis", x1: x(at), x2: x(at), y1: middle - 4, y2: middle + 4 }),
      ),
      reference === null ? null : s("path", { class: "expected", d: `M${x(reference)} 3v${HEIGHT - 6}` }),
      s("line", { class: "range", x1: x(estimate.lower), x2: x(estimate.upper), y1: middle, y2: middle }),
      s("circle", { class: "dot", cx: x(estimate.value), cy: middle, r: 4.5 }),
    ),
    h(
      "span",
      { class: "interval-value" },
      h("b", {}, format(estimate.value)),
      ` ${t("quality.interval", { lower: format(estimate.lower), upper: format(estimate.upper) })}`,
      reference === null ? null : h("small", {}, t("quality.expected", { value: format(reference) })),
    ),
  );
}
