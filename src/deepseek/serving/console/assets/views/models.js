// The repository: what is served and what could be; signatures; load, reload and unload where the server allows it.

import { json } from "../core/api.js";
import { h, fill, put } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { empty, failure, notice, table } from "../parts/cards.js";
import { dialog } from "../parts/dialogs.js";
import { modelState } from "../parts/states.js";

export function modelsView(context) {
  const list = h("div", { class: "stack" }, h("section", { class: "card" }, h("div", { class: "skeleton" })));
  const said = h("div");
  const root = h("div", { class: "view" }, said, list);
  const opened = new Set();
  const busy = new Set();
  let shown = "";

  async function act(name, action) {
    if (action === "unload") {
      let sure = false;
      await dialog({
        title: t("models.unloadTitle", { model: name }),
        body: h("p", {}, t("models.unloadWhat")),
        confirm: t("models.unload"),
        danger: true,
        act: () => {
          sure = true;
        },
      });
      if (!sure) return;
    }
    busy.add(name);
    fill(said);
    redraw();
    try {
      await json(`v2/repository/models/${encodeURIComponent(name)}/${action}`, { method: "POST", body: {} });
      put(said, notice(t(`models.did.${action}`, { model: name })));
    } catch (error) {
      put(said, failure(t(`models.failed.${action}`, { model: name }), error));
    } finally {
      busy.delete(name);
      await context.live.poll();
      redraw();
    }
  }

  function redraw() {
    shown = "";
    if (context.live.data) update(context.live.data);
  }

  function update(data) {
    const now = JSON.stringify([
      data.repository,
      data.server.model_control,
      Object.keys(data.signatures),
      [...busy],
      data.monitor?.models.map(({ rows }) => rows),
    ]);
    if (now === shown) return;
    shown = now;
    if (!data.repository.length) {
      fill(list, h("section", { class: "card" }, empty(t("models.none"), t("models.noneHow"))));
      return;
    }
    fill(
      list,
      data.server.model_control ? null : notice(t("models.noControl"), "info"),
      data.repository.map((entry) => modelCard(entry, data, { act, opened, busy })),
    );
  }

  return { root, update };
}

function modelCard(entry, data, { act, opened, busy }) {
  const key = `${entry.name}/${entry.version}`;
  const signature = data.signatures[key];
  const model = data.monitor?.models.find(({ name, version }) => name === entry.name && version === entry.version);
  const working = busy.has(entry.name);
  const button = (action, kind = "") =>
    h(
      "button",
      { type: "button", class: kind, disabled: working, onclick: () => act(entry.name, action) },
      t(`models.${action === "load" && entry.version ? "reload" : action}`),
    );
  const details = signature
    ? h(
        "details",
        { open: opened.has(key), ontoggle: (event) => (event.target.open ? opened.add(key) : opened.delete(key)) },
        h("summary", {}, t("models.signature")),
        fields(t("models.inputs"), signature.inputs),
        fields(t("models.outputs"), signature.outputs),
        fields(t("models.parameters"), signature.parameters),
      )
    : null;
  return h(
    "section",
    { class: "card model", "aria-busy": String(working) },
    h(
      "header",
      {},
      h(
        "h3",
        {},
        entry.name,
        entry.version ? h("small", {}, ` ${t("models.version", { version: entry.version })}`) : null,
      ),
      modelState(working ? { state: "LOADING" } : entry),
      h(
        "div",
        { class: "actions" },
        signature ? h("a", { class: "button", href: `#playground/${encodeURIComponent(key)}` }, t("models.try")) : null,
        data.server.model_control ? [button("load"), entry.version ? button("unload", "danger") : null] : null,
      ),
    ),
    h(
      "p",
      { class: "hint" },
      signature
        ? [
            signature.task,
            signature.platform,
            t("models.loadedAt", { time: format.moment(signature.loaded) }),
            model ? t("models.rows", { rows: format.count(model.rows) }) : null,
          ]
            .filter(Boolean)
            .join(" · ")
        : entry.reason === "unloaded"
          ? t("models.unloaded")
          : entry.reason,
    ),
    details,
  );
}

function fields(title, found) {
  if (!found.length) return null;
  return [
    h("h4", {}, title),
    table(
      [{ title: t("column.name") }, { title: t("column.type") }, { title: t("column.meaning"), narrow: false }],
      found.map((field) => [
        h(
          "span",
          {},
          h("code", {}, field.name),
          field.optional ? h("small", { class: "hint" }, ` ${t("optional")}`) : null,
        ),
        h("code", {}, typeName(field)),
        field.description,
      ]),
      title,
    ),
  ];
}

/** A field's type: `string`, `float32[2]`, `float32[·]`. */
export function typeName({ dtype, shape }) {
  return dtype + shape.map((size) => `[${size < 0 ? "·" : size}]`).join("");
}
