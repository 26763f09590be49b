// Keys and usage: administered on the admin port, where this page is served too; elsewhere it says where that is.

import { ApiError, json } from "../core/api.js";
import { currentKey } from "../core/preferences.js";
import { h, fill, put } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { card, empty, failure } from "../parts/cards.js";
import { code } from "../parts/dialogs.js";
import { keyList } from "./list.js";
import { usageCard } from "./usage.js";

export function keysView(context) {
  const root = h("div", { class: "view" });
  if (context.admin) {
    administer(root, context);
    return { root };
  }
  let shown = "";
  return {
    root,
    update({ server }) {
      const now = JSON.stringify([server.keys, server.admin_url]);
      if (now === shown) return;
      shown = now;
      fill(root, elsewhere(server));
    },
  };
}

function elsewhere({ keys, admin_url: url }) {
  const about = card(t(keys ? "keys.on" : "keys.off"), { wide: true });
  put(about.body, h("p", {}, t(keys ? "keys.onWhat" : "keys.offWhat")));
  if (url)
    put(
      about.body,
      h("p", {}, t("keys.where")),
      h("p", {}, h("a", { class: "button primary", href: url, target: "_blank", rel: "noopener" }, t("keys.open"))),
      h("p", { class: "hint" }, t("keys.tunnel")),
      code(`ssh -L ${port(url)}:127.0.0.1:${port(url)} ${location.hostname}`, "ssh"),
    );
  else if (keys)
    put(
      about.body,
      h("p", {}, t("keys.noAdmin")),
      code("DEEPSEEK_ADMIN_TOKEN=$(openssl rand -hex 24) deepseek serve …", "shell"),
    );
  put(
    about.body,
    h("h4", {}, t("keys.shell")),
    code("deepseek keys create my-app --plan free\ndeepseek keys list\ndeepseek keys usage", "shell"),
  );
  return about.root;
}

function port(url) {
  return new URL(url).port;
}

async function administer(root, context) {
  fill(root, h("section", { class: "card" }, h("div", { class: "skeleton" })));
  if (!currentKey()) {
    fill(
      root,
      h(
        "section",
        { class: "card" },
        empty(
          t("token.title"),
          t("token.why"),
          h("button", { type: "button", class: "primary", onclick: context.locked }, t("key.use")),
        ),
      ),
    );
    return;
  }
  try {
    const [{ keys }, { plans }] = await Promise.all([json("admin/keys"), json("admin/plans")]);
    const list = keyList(keys, plans);
    const usage = usageCard();
    list.changed = () => usage.reload();
    fill(root, list.root, usage.root);
  } catch (error) {
    fill(root, failure(t("keys.unread"), error));
    if (error instanceof ApiError && error.status === 401) context.locked(error);
  }
}
