// A line of the size of a word: shape alone, the number stands beside it.

import { s, fill } from "../core/dom.js";
import { linear } from "./scales.js";

/** A sparkline; `update(values)` redraws it. */
export function spark({ tone = 1, width = 96, height = 24, area = true } = {}) {
  const root = s("svg", {
    class: "spark",
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    "aria-hidden": "true",
    preserveAspectRatio: "none",
  });
  return {
    root,
    update(values) {
      const known = (values ?? []).filter((value) => value !== null && value !== undefined);
      if (known.length < 2) return fill(root);
      const x = linear(0, values.length - 1, 1, width - 1);
      const y = linear(0, Math.max(...known) || 1, height - 2, 2);
      const runs = [[]];
      values.forEach((value, at) => {
        if (value === null || value === undefined) runs.push([]);
        else runs.at(-1).push(`${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
      });
      const drawn = runs.filter((run) => run.length > 1);
      const path = drawn.map((run) => `M${run.join("L")}`).join("");
      const below = drawn
        .map((run) => `M${run[0].split(" ")[0]} ${height}L${run.join("L")}L${run.at(-1).split(" ")[0]} ${height}Z`)
        .join("");
      return fill(
        root,
        area ? s("path", { class: `area tone-${tone}`, d: below }) : null,
        s("path", { class: `line tone-${tone}`, d: path }),
      );
    },
  };
}
