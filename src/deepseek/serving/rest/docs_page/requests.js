// The editor of a request, and sending it.

import { element, said } from "./elements.js";
import { exampleOf, resolve, schemaTree } from "./schemas.js";
import { text } from "./texts.js";

const JSON_TYPE = "application/json";
const FORM_TYPE = "multipart/form-data";
const LONGEST = 200000;

/** An editor of one operation's request; `collect` gives what to send, and throws when it cannot be sent. */
export class RequestEditor {
  constructor(path, method, operation, spec) {
    Object.assign(this, { path, method: method.toUpperCase(), operation, spec });
    this.fields = [];
    this.kind = null;
    this.root = element("div", { class: "editor" });
    this.reset();
  }

  reset() {
    this.fields = [];
    const content = this.operation.requestBody?.content ?? {};
    this.root.replaceChildren(...this.parameters(), ...this.body(content));
  }

  parameters() {
    const parameters = this.operation.parameters ?? [];
    if (!parameters.length) return [];
    const rows = parameters.map((each) => this.field(each.name, each.schema, each.description, "query"));
    return [said("h4", "parameters"), ...rows];
  }

  field(name, schema, description, place) {
    const found = resolve(schema, this.spec);
    const one = found.type === "array" ? resolve(found.items, this.spec) : found;
    const many = found.type === "array";
    const file = one.contentMediaType === "application/octet-stream";
    const input = element("input", { type: file ? "file" : "text", multiple: file && many, name, spellcheck: false });
    const about = description ?? found.description;
    const split = many && !file && (place === "query" || one.type !== "string"); // texts have commas of their own
    this.fields.push({ name, input, file, place, split });
    return element(
      "label", { class: "field" },
      element("code", { textContent: name }), input,
      about ? element("span", { class: "hint", textContent: about }) : null,
      split ? said("span", "several", { class: "hint" }) : null,
    );
  }

  body(content) {
    const kinds = Object.keys(content).filter((kind) => kind === JSON_TYPE || kind === FORM_TYPE);
    if (!kinds.length) return [];
    const panel = element("div", {});
    const tabs = kinds.map((kind) => {
      const tab = said("button", kind === JSON_TYPE ? "json" : "form", { type: "button", role: "tab" });
      tab.addEventListener("click", () => this.show(kind, content, panel, tabs, kinds));
      return tab;
    });
    this.show(kinds[0], content, panel, tabs, kinds);
    return [said("h4", "body"), element("div", { class: "tabs", role: "tablist" }, ...tabs), panel];
  }

  show(kind, content, panel, tabs, kinds) {
    this.kind = kind;
    this.fields = this.fields.filter((field) => field.place === "query");
    tabs.forEach((tab, at) => tab.setAttribute("aria-selected", String(kinds[at] === kind)));
    const { schema, example } = content[kind];
    const tree = element("details", { class: "tree" }, said("summary", "schema"), schemaTree(schema, this.spec));
    if (kind === JSON_TYPE) {
      const value = JSON.stringify(example ?? exampleOf(schema, this.spec), null, 2);
      this.area = element("textarea", { value, spellcheck: false, rows: Math.min(16, value.split("\n").length + 1) });
      this.area.setAttribute("aria-label", JSON_TYPE);
      panel.replaceChildren(this.area, tree);
      return;
    }
    const found = resolve(schema, this.spec);
    const form = resolve((found.anyOf ?? [found])[0], this.spec);
    const rows = Object.entries(form.properties ?? {}).map(([name, each]) => this.field(name, each, null, "form"));
    panel.replaceChildren(...rows, tree);
  }

  /** URL, options for fetch, and the same as a command. */
  collect(key) {
    const query = new URLSearchParams();
    const form = new FormData();
    const headers = key ? { authorization: `Bearer ${key}` } : {};
    const words = ["curl"];
    if (this.method !== "GET") words.push("-X", this.method);
    if (key) words.push("-H", quote("authorization: Bearer $KEY", '"'));
    for (const field of this.fields) {
      for (const value of valuesOf(field)) {
        if (field.place === "query") query.append(field.name, value);
        else form.append(field.name, value);
        if (field.place === "form") {
          words.push("-F", quote(field.file ? `${field.name}=@${value.name}` : `${field.name}=${value}`));
        }
      }
    }
    const url = this.path + (query.size ? `?${query}` : "");
    let body;
    if (this.kind === JSON_TYPE) {
      try {
        body = JSON.stringify(JSON.parse(this.area.value));
      } catch (error) {
        throw new Error(text("invalid") + error.message);
      }
      headers["content-type"] = JSON_TYPE;
      words.push("-H", quote(`content-type: ${JSON_TYPE}`), "-d", quote(body));
    } else if (this.kind === FORM_TYPE) {
      body = form;
    }
    words.push(quote(location.origin + url));
    return { url, options: { method: this.method, headers, body }, command: words.join(" ") };
  }
}

function valuesOf({ input, file, split }) {
  if (file) return [...input.files];
  if (input.value === "") return [];
  return split ? splitValues(input.value) : [input.value];
}

function splitValues(value) {
  // several values are separated by commas, unless the value is JSON, which has its own
  return /^[[{"]/.test(value.trim()) ? [value] : value.split(",").map((each) => each.trim()).filter(Boolean);
}

function quote(value, mark = "'") {
  if (mark === '"') return `"${value}"`;
  return `'${value.replaceAll("'", "'\\''")}'`;
}

/** Send a request and show what comes back. */
export async function send({ url, options, command }, place) {
  const status = element("p", { role: "status", textContent: text("sending") });
  place.replaceChildren(said("h4", "request"), element("pre", { class: "command", textContent: command }), status);
  const started = performance.now();
  try {
    const answer = await fetch(url, options);
    const content = await answer.arrayBuffer();
    const took = performance.now() - started;
    const good = answer.ok ? "good" : "bad";
    status.replaceChildren(
      element("strong", { class: good, textContent: `${answer.status} ${answer.statusText}` }),
      ` · ${took < 10 ? took.toFixed(1) : Math.round(took)} ms · ${content.byteLength} ${text("bytes")}`,
    );
    const kind = answer.headers.get("content-type") ?? "";
    place.append(said("h4", "answer"), element("pre", { class: "result", textContent: readable(content, kind) }));
  } catch (error) {
    status.replaceChildren(element("strong", { class: "bad", textContent: text("network") + error.message }));
  }
}

function readable(content, kind) {
  if (!/json|text|xml/.test(kind)) return `${kind}, ${content.byteLength} ${text("bytes")}`;
  const raw = new TextDecoder().decode(content);
  if (raw.length > LONGEST) return `${raw.slice(0, LONGEST)}…`;
  try {
    return JSON.stringify(JSON.parse(raw), null, 2);
  } catch {
    return raw;
  }
}
