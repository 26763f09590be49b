// JSON schemas as people read them, and examples made from them.

import { element, said } from "./elements.js";

const DEEPEST = 8;

/** Follow references into the document's components. */
export function resolve(schema, spec) {
  let found = schema ?? {};
  for (let hops = 0; found.$ref && hops < DEEPEST; hops += 1) {
    found = found.$ref.slice(2).split("/").reduce((at, key) => at?.[key], spec) ?? {};
  }
  return found;
}

/** A value that fits a schema. */
export function exampleOf(schema, spec, depth = 0) {
  const found = resolve(schema, spec);
  if (found.example !== undefined) return found.example;
  if (found.const !== undefined) return found.const;
  if (found.enum) return found.enum[0];
  const choice = (found.anyOf ?? found.oneOf)?.[0];
  if (choice) return exampleOf(choice, spec, depth);
  if (depth > DEEPEST) return null;
  const type = Array.isArray(found.type) ? found.type[0] : found.type;
  if (type === "object") {
    const names = found.required ?? Object.keys(found.properties ?? {});
    return Object.fromEntries(names.map((name) => [name, exampleOf(found.properties?.[name], spec, depth + 1)]));
  }
  if (type === "array") return Array(Math.max(1, found.minItems ?? 1)).fill(exampleOf(found.items, spec, depth + 1));
  return { string: "", integer: Math.max(0, found.minimum ?? 0), number: 0, boolean: true }[type] ?? null;
}

function typeOf(schema) {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  const types = [schema.type ?? "any"].flat().join(" | ");
  const hints = [schema.format, schema.contentEncoding, schema.contentMediaType].filter(Boolean).join(", ");
  return hints ? `${types} (${hints})` : types;
}

function line(name, schema, required) {
  return element(
    "span", { class: "line" },
    name ? element("code", { class: "name", textContent: name }) : null,
    element("span", { class: "type", textContent: typeOf(schema) }),
    required ? said("span", "required", { class: "required" }) : null,
    schema.description ? element("span", { class: "hint", textContent: schema.description }) : null,
  );
}

/** A schema as a tree of list items. */
export function schemaTree(schema, spec) {
  return element("ul", { class: "schema" }, node("", schema, spec, false, 0));
}

function node(name, schema, spec, required, depth) {
  const found = resolve(schema, spec);
  const choices = found.anyOf ?? found.oneOf;
  const item = element("li", {}, line(name, choices ? { type: "any of", ...pick(found) } : found, required));
  if (depth > DEEPEST) return item;
  const below = [];
  for (const [key, each] of Object.entries(found.properties ?? {})) {
    below.push(node(key, each, spec, found.required?.includes(key), depth + 1));
  }
  for (const each of choices ?? []) below.push(node("", each, spec, false, depth + 1));
  if (found.items) below.push(node("[ ]", found.items, spec, false, depth + 1));
  if (below.length) item.append(element("ul", {}, ...below));
  return item;
}

function pick(schema) {
  return schema.description ? { description: schema.description } : {};
}
