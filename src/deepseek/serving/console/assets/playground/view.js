// Try a model: a form out of its signature, or a chat; the answer as people read it; the same request to copy.

import { json } from "../core/api.js";
import { h, fill } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { card, empty, failure, select } from "../parts/cards.js";
import { answerOf } from "./answers.js";
import { chatPanel } from "./chat.js";
import { FieldError, fieldEditor, parameterEditors } from "./fields.js";
import { snippetBox, taskSnippets } from "./snippets.js";

export function playgroundView(context) {
  const chooser = h("div", { class: "chooser" });
  const body = h("div", {}, h("section", { class: "card" }, h("div", { class: "skeleton" })));
  const root = h("div", { class: "view playground" }, chooser, body);
  let key = context.argument;
  let known = "";
  let panel = null;

  function choose(next) {
    key = next;
    known = "";
    history.replaceState(null, "", `#playground/${encodeURIComponent(next)}`);
    if (context.live.data) update(context.live.data);
  }

  function update(data) {
    const models = Object.entries(data.signatures).filter(([each]) =>
      data.repository.some(({ name, version }) => `${name}/${version}` === each),
    );
    if (!models.length) {
      known = "";
      fill(chooser);
      fill(body, empty(t("overview.noModels"), t("overview.noModelsHow")));
      return;
    }
    const keys = models.map(([each]) => each);
    if (!keys.includes(key)) key = keys.find((each) => each.startsWith(`${key}/`)) ?? keys[0];
    const now = JSON.stringify([keys, key, data.signatures[key]]);
    if (now === known) return; // the person's words stay where they are
    known = now;
    panel?.close?.();
    const signature = data.signatures[key];
    fill(
      chooser,
      h(
        "label",
        {},
        h("span", {}, t("column.model")),
        select(
          models.map(([each, { task }]) => [each, `${each} · ${task}`]),
          key,
          choose,
          t("column.model"),
        ),
      ),
    );
    panel = signature.chat
      ? chatPanel(nameOf(key), data.server.keys)
      : taskPanel(nameOf(key), signature, data.server.keys);
    fill(body, panel.root);
  }

  return { root, update, close: () => panel?.close?.() };
}

const nameOf = (key) => key.slice(0, key.lastIndexOf("/"));

function taskPanel(model, signature, keys) {
  const rows = [];
  const list = h("div", { class: "rows" });
  const parameters = parameterEditors(signature.parameters);
  const problem = h("p", { class: "problem", role: "alert" });
  const run = h("button", { type: "submit", class: "primary" }, t("play.run"));
  const more = h("button", { type: "button", onclick: () => add(true) }, t("play.addRow"));
  const form = h(
    "form",
    { novalidate: true },
    list,
    h("div", { class: "buttons start" }, more),
    signature.parameters.length
      ? h("details", { class: "parameters" }, h("summary", {}, t("models.parameters")), parameters.root)
      : null,
    problem,
    h("div", { class: "buttons start" }, run, h("span", { class: "hint" }, t("play.shortcut"))),
  );
  const output = h("div", { class: "output", "aria-live": "polite" }, empty(t("play.nothing"), t("play.nothingHow")));
  const asked = card(t("play.request"), { hint: `POST /v1/tasks/${signature.task}` });
  const answered = card(t("play.answer"));
  const same = card(t("play.same"), { hint: t("play.sameHint"), wide: true });
  fill(asked.body, form);
  fill(answered.body, output);
  const snippets = snippetBox();
  fill(same.body, snippets.root);

  function add(focus = false) {
    const editors = signature.inputs.map((field) => fieldEditor(field, { large: true, example: !rows.length }));
    const row = { editors };
    const remove = h(
      "button",
      {
        type: "button",
        class: "quiet remove",
        onclick: () => {
          rows.splice(rows.indexOf(row), 1);
          row.root.remove();
          renumber();
        },
      },
      t("play.removeRow"),
    );
    const title = h("span", {});
    row.title = title;
    row.root = h(
      "fieldset",
      { class: "row" },
      h("legend", {}, title, remove),
      editors.map((each) => each.root),
    );
    rows.push(row);
    list.append(row.root);
    renumber();
    if (focus) row.root.querySelector("textarea, input, select")?.focus();
  }

  function renumber() {
    list.classList.toggle("single", rows.length === 1);
    rows.forEach((row, at) => (row.title.textContent = t("play.row", { number: at + 1 })));
    refresh();
  }

  async function collect() {
    const inputs = [];
    for (const { editors } of rows) inputs.push(await valuesOf(editors));
    const chosen = await valuesOf(parameters.editors);
    const body = { model, inputs: inputs.length === 1 ? inputs[0] : inputs };
    return Object.keys(chosen).length ? { ...body, parameters: chosen } : body;
  }

  async function refresh() {
    const files = rows.flatMap(({ editors }) => editors.filter(({ file }) => file).map(({ file }) => file()));
    try {
      snippets.show(taskSnippets(signature.task, await collect(), { keys, files }));
    } catch (error) {
      if (!(error instanceof FieldError)) throw error; // an unfinished form has no request yet
    }
  }

  form.addEventListener("input", () => refresh());
  form.addEventListener("change", () => refresh());
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    let request;
    try {
      request = await collect();
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      problem.textContent = error.message;
      error.input.focus();
      return;
    }
    run.disabled = true;
    fill(output, h("div", { class: "skeleton" }));
    const began = performance.now();
    try {
      const { outputs } = await json(`v1/tasks/${signature.task}`, { method: "POST", body: request });
      const took = (performance.now() - began) / 1000;
      const inputs = Array.isArray(request.inputs) ? request.inputs : [request.inputs];
      fill(
        output,
        h("p", { class: "hint" }, t("play.took", { time: format.seconds(took), rows: outputs.length })),
        answerOf(signature, inputs, outputs),
      );
    } catch (error) {
      const again = error.retryAfter ? ` ${t("play.retry", { seconds: error.retryAfter })}` : "";
      fill(output, failure(t("play.refused", { status: error.status || t("silent") }), `${error.message}${again}`));
    } finally {
      run.disabled = false;
    }
  });
  add();
  return { root: h("div", { class: "grid" }, asked.root, answered.root, same.root) };
}

async function valuesOf(editors) {
  const found = {};
  for (const editor of editors) {
    const value = await editor.value();
    if (value !== undefined) found[editor.name] = value;
  }
  return found;
}
