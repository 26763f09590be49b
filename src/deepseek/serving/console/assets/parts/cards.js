// What views are put together from: cards, figures, badges, and what stands where there is nothing to show.

import { h, fill, put, write } from "../core/dom.js";
import { spark } from "../charts/spark.js";
import { icon } from "./icons.js";

/** A titled card; `put(card.body, …)`. */
export function card(title, { hint = null, wide = false, actions = null } = {}) {
  const body = h("div", { class: "card-body" });
  const note = h("p", { class: "hint", hidden: hint === null }, hint);
  const root = h(
    "section",
    { class: `card${wide ? " wide" : ""}` },
    h("header", {}, h("h3", {}, title), note, actions ? h("div", { class: "actions" }, actions) : null),
    body,
  );
  return { root, body, note };
}

/** A figure with its trend: `update(text, values, note, state)`; `state`: `bad` or `warn`. */
export function figure(label, tone = 1) {
  const value = h("strong");
  const note = h("small");
  const line = spark({ tone, width: 120, height: 34 });
  const root = h("div", { class: "card figure" }, h("span", { class: "figure-label" }, label), value, note, line.root);
  return {
    root,
    update(text, values, small = "", state = "") {
      write(value, text);
      write(note, small);
      value.className = state;
      line.update(values);
    },
  };
}

/** A word on a coloured ground: `good`, `warn`, `bad`, `quiet`, `info`. The word says it too. */
export function badge(text, kind = "quiet") {
  return h("span", { class: `badge ${kind}` }, text);
}

/** What stands where there is nothing: why, and what to do. */
export function empty(title, text = null, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), text ? h("p", {}, text) : null, more);
}

/** A failure, with what the server said. */
export function failure(title, error) {
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    icon("alert"),
    h("div", {}, h("b", {}, title), error ? h("p", {}, String(error.message ?? error)) : null),
  );
}

/** A note that is no failure. */
export function notice(text, kind = "info") {
  return h(
    "div",
    { class: `notice ${kind}`, role: "status" },
    icon(kind === "info" ? "info" : "alert"),
    h("div", {}, text),
  );
}

/** Names and values in two columns. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

/** The same side by side, each name above its value. */
export function factsAcross(pairs) {
  return h(
    "dl",
    { class: "facts across" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** A table. `columns`: `{ title, number, hideNarrow }`; `rows`: arrays of nodes or texts. */
export function table(columns, rows, caption) {
  const kind = ({ number, narrow }) =>
    [number ? "number" : "", narrow === false ? "not-narrow" : ""].join(" ").trim() || null;
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map((column) => h("th", { scope: "col", class: kind(column) }, column.title)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((cells) =>
          h(
            "tr",
            {},
            cells.map((cell, at) => h("td", { class: kind(columns[at]) }, cell)),
          ),
        ),
      ),
    ),
  );
}

/** A bar that fills: a share of a limit; unless `calm`, it is coloured by how full it is. */
export function meter(value, text, { calm = false } = {}) {
  const fillBar = h("i", { class: `meter-fill ${calm ? "" : value >= 0.9 ? "bad" : value >= 0.75 ? "warn" : ""}` });
  fillBar.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
  return h(
    "span",
    { class: "meter" },
    h("span", { class: "meter-track" }, fillBar),
    h("span", { class: "meter-text" }, text),
  );
}

/** Some buttons of which one is pressed. `choices`: `[value, text]`. */
export function choice(choices, chosen, choose, label) {
  const root = h("div", { class: "choice", role: "group", "aria-label": label });
  const draw = (current) =>
    fill(
      root,
      choices.map(([value, text]) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": String(value === current),
            onclick: () => {
              draw(value);
              choose(value);
              root.querySelector("[aria-pressed=true]").focus();
            },
          },
          text,
        ),
      ),
    );
  draw(chosen);
  return root;
}

/** A drop-down. `choices`: `[value, text]`. */
export function select(choices, chosen, choose, label) {
  return h(
    "select",
    { "aria-label": label, onchange: (event) => choose(event.target.value) },
    choices.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
}

export { fill, put };
