// All keys: create (the key is shown once), rotate, revoke.

import { json } from "../core/api.js";
import { h, fill } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { badge, card, empty, select, table } from "../parts/cards.js";
import { code, dialog, labelled } from "../parts/dialogs.js";
import { icon } from "../parts/icons.js";

const KINDS = { active: "good", expired: "quiet", revoked: "bad" };

/** The card with the list; `changed` is called after every change. */
export function keyList(keys, plans) {
  const create = h("button", { type: "button", class: "primary" }, icon("plus"), t("keys.create"));
  const box = card(t("keys.title"), { wide: true, actions: create });
  const list = { root: box.root, changed: () => {} };

  async function reload() {
    ({ keys } = await json("admin/keys"));
    draw();
    list.changed();
  }

  function draw() {
    if (!keys.length) {
      fill(box.body, empty(t("keys.none"), t("keys.noneHow")));
      return;
    }
    fill(
      box.body,
      table(
        [
          { title: t("column.name") },
          { title: t("column.state") },
          { title: t("column.plan") },
          { title: t("column.models"), narrow: false },
          { title: t("column.created"), narrow: false },
          { title: t("column.expires"), narrow: false },
          { title: "" },
        ],
        [...keys]
          .reverse()
          .map((key) => [
            h(
              "span",
              {},
              h("b", {}, key.name),
              h("small", { class: "below" }, h("code", { class: "whole" }, key.id)),
              key.owner ? h("small", { class: "below" }, key.owner) : null,
            ),
            [
              badge(t(`key.${key.state}`), KINDS[key.state]),
              key.previous_secret_until
                ? h(
                    "small",
                    { class: "below" },
                    t("keys.overlapUntil", { time: format.moment(key.previous_secret_until) }),
                  )
                : null,
            ],
            key.plan,
            key.models.join(", "),
            format.moment(key.created_at),
            key.expires_at ? format.moment(key.expires_at) : t("never"),
            key.state === "active"
              ? h(
                  "div",
                  { class: "actions" },
                  h("button", { type: "button", onclick: () => rotate(key, reload) }, t("keys.rotate")),
                  h(
                    "button",
                    { type: "button", class: "danger", onclick: () => revoke(key, reload) },
                    t("keys.revoke"),
                  ),
                )
              : null,
          ]),
        t("keys.title"),
      ),
    );
  }

  create.addEventListener("click", () => createKey(plans, reload));
  draw();
  return list;
}

function issued(key) {
  return [h("p", {}, t("keys.once")), code(key, t("keys.key"))];
}

function createKey(plans, reload) {
  const name = h("input", { type: "text", name: "name", autocomplete: "off", required: true, autofocus: true });
  const plan = select(
    Object.entries(plans).map(([each, limits]) => [each, `${each} · ${limitsOf(limits)}`]),
    "free",
    () => {},
    t("column.plan"),
  );
  const models = h("input", { type: "text", name: "models", value: "*", autocomplete: "off", spellcheck: "false" });
  const owner = h("input", { type: "text", name: "owner", autocomplete: "off" });
  const expires = h("input", {
    type: "text",
    name: "expires",
    placeholder: "30d",
    autocomplete: "off",
    spellcheck: "false",
  });
  return dialog({
    title: t("keys.create"),
    body: [
      labelled(t("column.name"), name),
      labelled(t("column.plan"), plan),
      labelled(t("column.models"), models, t("keys.modelsHint")),
      labelled(t("column.owner"), owner),
      labelled(t("column.expires"), expires, t("keys.expiresHint")),
    ],
    confirm: t("keys.create"),
    act: async () => {
      if (!name.value.trim()) throw new Error(t("field.missing", { name: t("column.name") }));
      const body = {
        name: name.value.trim(),
        plan: plan.value,
        models: models.value
          .split(",")
          .map((each) => each.trim())
          .filter(Boolean),
        owner: owner.value.trim(),
      };
      const { key } = await json("admin/keys", {
        method: "POST",
        body: { ...body, ...(expires.value.trim() ? { expires: expires.value.trim() } : {}) },
      });
      await reload();
      return issued(key);
    },
  });
}

function rotate(record, reload) {
  const overlap = select(
    [
      ["24h", t("keys.overlap.24h")],
      ["1h", t("keys.overlap.1h")],
      ["7d", t("keys.overlap.7d")],
      ["0s", t("keys.overlap.0s")],
    ],
    "24h",
    () => {},
    t("keys.overlap"),
  );
  return dialog({
    title: t("keys.rotateTitle", { name: record.name }),
    body: [h("p", {}, t("keys.rotateWhat")), labelled(t("keys.overlap"), overlap)],
    confirm: t("keys.rotate"),
    act: async () => {
      const { key } = await json(`admin/keys/${encodeURIComponent(record.id)}/rotate`, {
        method: "POST",
        body: { overlap: overlap.value },
      });
      await reload();
      return issued(key);
    },
  });
}

function revoke(record, reload) {
  return dialog({
    title: t("keys.revokeTitle", { name: record.name }),
    body: h("p", {}, t("keys.revokeWhat")),
    confirm: t("keys.revoke"),
    danger: true,
    act: async () => {
      await json(`admin/keys/${encodeURIComponent(record.id)}`, { method: "DELETE" });
      await reload();
    },
  });
}

function limitsOf({ requests_per_minute: requests, inferences_per_day: inferences, tokens_per_day: tokens }) {
  const parts = [
    requests === null ? null : t("keys.perMinute", { count: format.count(requests) }),
    inferences === null ? null : t("keys.perDay", { count: format.count(inferences) }),
    tokens === null ? null : t("keys.tokensPerDay", { count: format.count(tokens) }),
  ].filter(Boolean);
  return parts.length ? parts.join(", ") : t("keys.unlimited");
}
