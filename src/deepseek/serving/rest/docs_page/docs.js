// The page: reads /openapi.json, lists the operations by group, and shows one when it is opened.

import { element, said } from "./elements.js";
import { RequestEditor, send } from "./requests.js";
import { resolve, schemaTree } from "./schemas.js";
import { switchLanguage, text, translate } from "./texts.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const byId = (id) => document.getElementById(id);

function badge(method) {
  return element("span", { class: `method ${method}`, textContent: method.toUpperCase() });
}

function operationsOf(spec) {
  const found = [];
  for (const [path, item] of Object.entries(spec.paths ?? {})) {
    for (const method of METHODS) {
      if (item[method]) found.push({ path, method, operation: item[method], group: item[method].tags?.[0] ?? "" });
    }
  }
  return found;
}

function groupsOf(spec, operations) {
  const named = (spec.tags ?? []).map((tag) => tag.name);
  const others = operations.map((each) => each.group).filter((name) => !named.includes(name));
  return [...new Set([...named, ...others])].filter((name) => operations.some((each) => each.group === name));
}

function answers(operation, spec) {
  const rows = Object.entries(operation.responses ?? {}).map(([status, given]) => {
    const answer = resolve(given, spec);
    const schema = Object.values(answer.content ?? {})[0]?.schema;
    const head = [
      element("code", { class: status < "300" ? "good" : "bad", textContent: status }),
      element("span", { textContent: answer.description ?? "" }),
    ];
    if (!schema || status >= "300") return element("div", { class: "answer" }, ...head);
    return element("details", { class: "answer" }, element("summary", {}, ...head), schemaTree(schema, spec));
  });
  return [said("h4", "answers"), ...rows];
}

function fill(place, { path, method, operation }, spec) {
  const editor = new RequestEditor(path, method, operation, spec);
  const result = element("div", { class: "outcome" });
  const go = said("button", "send", { type: "button", class: "send" });
  const reset = said("button", "again", { type: "button" });
  go.addEventListener("click", async () => {
    go.disabled = true;
    try {
      await send(editor.collect(byId("key").value.trim()), result);
    } catch (error) {
      result.replaceChildren(element("p", { class: "bad", role: "alert", textContent: error.message }));
    } finally {
      go.disabled = false;
    }
  });
  reset.addEventListener("click", () => {
    editor.reset();
    result.replaceChildren();
  });
  place.replaceChildren(
    element("div", { class: "ask" },
      operation.description ? element("p", { textContent: operation.description }) : null,
      editor.root, element("div", { class: "buttons" }, go, reset), result),
    element("div", { class: "told" }, ...answers(operation, spec)),
  );
}

function card(each, spec) {
  const content = element("div", { class: "content" });
  const made = element(
    "details", { class: "operation", id: each.operation.operationId },
    element("summary", {}, badge(each.method), element("code", { textContent: each.path }),
      element("span", { class: "hint", textContent: each.operation.summary ?? "" })),
    content,
  );
  made.addEventListener("toggle", () => {
    if (made.open && !content.hasChildNodes()) fill(content, each, spec);
  });
  return made;
}

function open(id) {
  const found = byId(id);
  if (!found?.classList.contains("operation")) return;
  found.open = true;
  found.scrollIntoView({ block: "start" });
}

function show(spec) {
  byId("version").textContent = spec.info?.version ?? "";
  const operations = operationsOf(spec);
  const shown = [];
  for (const name of groupsOf(spec, operations)) {
    const mine = operations.filter((each) => each.group === name);
    const about = (spec.tags ?? []).find((tag) => tag.name === name)?.description ?? "";
    const links = mine.map((each) => {
      const link = element("a", { href: `#${each.operation.operationId}`, title: each.path },
        badge(each.method), element("span", { textContent: each.path }));
      link.addEventListener("click", () => open(each.operation.operationId));
      return element("li", {}, link);
    });
    const cards = mine.map((each) => card(each, spec));
    const list = element("section", {}, said("h2", name), element("ul", {}, ...links));
    const section = element("section", {},
      said("h2", name), about ? element("p", { class: "hint", textContent: about }) : null, ...cards);
    byId("routes").append(list);
    byId("operations").append(section);
    mine.forEach((each, at) => {
      const words = `${each.method} ${each.path} ${each.operation.summary ?? ""}`.toLowerCase();
      shown.push({ words, parts: [links[at], cards[at]], groups: [list, section] });
    });
  }
  byId("filter").addEventListener("input", () => filter(shown));
  open(decodeURIComponent(location.hash.slice(1)));
}

function filter(shown) {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const alive = new Set();
  for (const each of shown) {
    const fits = words.every((word) => each.words.includes(word));
    for (const part of each.parts) part.hidden = !fits;
    if (fits) each.groups.forEach((group) => alive.add(group));
  }
  for (const each of shown) for (const group of each.groups) group.hidden = !alive.has(group);
  const state = byId("state");
  state.textContent = alive.size ? "" : text("none");
}

async function main() {
  translate(document);
  const button = byId("language");
  const label = () => {
    button.textContent = text("language");
    button.setAttribute("aria-label", text("languageLabel"));
  };
  label();
  button.addEventListener("click", () => {
    switchLanguage();
    label();
  });
  const state = byId("state");
  const read = async () => {
    state.className = "";
    state.textContent = text("loading");
    try {
      const key = byId("key").value.trim();
      const answer = await fetch("/openapi.json", { headers: key ? { authorization: `Bearer ${key}` } : {} });
      if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
      show(await answer.json());
      state.textContent = "";
      byId("key").removeEventListener("change", read);
    } catch (error) {
      state.textContent = text("failed") + error.message;
      state.className = "bad";
    }
  };
  byId("key").addEventListener("change", read); // a server that needs keys tells nothing without one
  await read();
}

main();
