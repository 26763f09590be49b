// Inputs for the fields of a signature: texts, numbers, switches, files, lists. A value is what the JSON request holds.

import { h, fill } from "../core/dom.js";
import { bytes } from "../core/format.js";
import { t } from "../core/i18n.js";
import { icon } from "../parts/icons.js";
import { typeName } from "../views/models.js";

/** What a person wrote is not a value of the field. */
export class FieldError extends Error {
  constructor(message, input) {
    super(message);
    this.input = input;
  }
}

/**
 * An editor of one field: `root`, `name`, and `value()`, undefined where it is left out. `example`: a required field
 * begins with a plausible value, so that there is a request to run and to copy.
 */
export function fieldEditor(field, { large = false, example = false } = {}) {
  const kind = field.shape.length
    ? listEditor
    : field.dtype === "bytes"
      ? fileEditor
      : field.dtype === "bool"
        ? boolEditor
        : field.dtype === "string"
          ? textEditor
          : numberEditor;
  const { root, value, file } = kind(field, large);
  const input = root.querySelector("textarea, input:not([type=file])");
  if (example && !field.optional && input) input.value = exampleOf(field);
  return { root, name: field.name, value, file };
}

/** Editors of all parameters, side by side. */
export function parameterEditors(parameters) {
  const editors = parameters.map((field) => fieldEditor(field));
  return {
    editors,
    root: h(
      "div",
      { class: "fields" },
      editors.map((each) => each.root),
    ),
  };
}

function framed(field, input, below = null) {
  return h(
    "label",
    { class: "field" },
    h(
      "span",
      { class: "field-name" },
      h("code", {}, field.name),
      h("small", {}, ` ${typeName(field)}${field.optional ? `, ${t("optional")}` : ""}`),
    ),
    input,
    below,
    field.description ? h("span", { class: "hint" }, field.description) : null,
  );
}

function missing(field, input) {
  return new FieldError(t("field.missing", { name: field.name }), input);
}

function textEditor(field, large) {
  const input = large
    ? h("textarea", { name: field.name, rows: 4, spellcheck: "false" })
    : h("input", { type: "text", name: field.name, autocomplete: "off" });
  return {
    root: framed(field, input),
    value: () => {
      if (input.value === "") {
        if (field.optional) return undefined;
        throw missing(field, input);
      }
      return input.value;
    },
  };
}

function numberEditor(field) {
  const whole = field.dtype.startsWith("int");
  const input = h("input", {
    type: "text",
    name: field.name,
    inputmode: whole ? "numeric" : "decimal",
    autocomplete: "off",
  });
  return {
    root: framed(field, input),
    value: () => {
      const text = input.value.trim();
      if (text === "") {
        if (field.optional) return undefined;
        throw missing(field, input);
      }
      const number = Number(text);
      if (!Number.isFinite(number) || (whole && !Number.isInteger(number)))
        throw new FieldError(t(whole ? "field.whole" : "field.number", { name: field.name }), input);
      return number;
    },
  };
}

function boolEditor(field) {
  const choices = field.optional
    ? [
        ["", t("field.default")],
        ["true", "true"],
        ["false", "false"],
      ]
    : [
        ["false", "false"],
        ["true", "true"],
      ];
  const input = h(
    "select",
    { name: field.name },
    choices.map(([value, text]) => h("option", { value }, text)),
  );
  return { root: framed(field, input), value: () => (input.value === "" ? undefined : input.value === "true") };
}

function listEditor(field, large) {
  const lines = field.dtype === "string" && field.shape.length === 1;
  const input = h("textarea", {
    name: field.name,
    rows: large ? 4 : 2,
    spellcheck: "false",
    placeholder: lines ? t("field.lines") : "[1, 2, 3]",
  });
  return {
    root: framed(field, input),
    value: () => {
      const text = input.value.trim();
      if (text === "") {
        if (field.optional) return undefined;
        throw missing(field, input);
      }
      if (lines && !text.startsWith("[")) return text.split("\n");
      try {
        return JSON.parse(text.startsWith("[") ? text : `[${text}]`);
      } catch {
        throw new FieldError(t("field.list", { name: field.name }), input);
      }
    },
  };
}

/** A plausible value, as a person would write it. */
function exampleOf({ dtype, shape, description }) {
  const one =
    {
      string: description.includes("[MASK]") ? "Paris is the [MASK] of France." : "a moving and funny film",
      bool: true,
    }[dtype] ?? (dtype.startsWith("int") ? 1 : 0.5);
  if (!shape.length) return String(one);
  const whole = [...shape].reverse().reduce((inner, size) => Array(size < 0 ? 2 : size).fill(inner), one);
  return dtype === "string" && shape.length === 1 ? whole.join("\n") : JSON.stringify(whole);
}

function fileEditor(field) {
  const preview = h("div", { class: "preview" }, icon("upload"), h("span", {}, t("field.drop")));
  const input = h("input", {
    type: "file",
    name: field.name,
    accept: /image|picture|PNG|JPEG/i.test(field.description + field.name) ? "image/*" : null,
  });
  const zone = h("div", { class: "drop" }, preview, input);
  let url = null;
  const show = () => {
    if (url) URL.revokeObjectURL(url);
    url = null;
    const file = input.files[0];
    if (!file) return fill(preview, icon("upload"), h("span", {}, t("field.drop")));
    const name = h("span", {}, `${file.name} · ${bytes(file.size)}`);
    if (!file.type.startsWith("image/")) return fill(preview, name);
    url = URL.createObjectURL(file);
    return fill(preview, h("img", { src: url, alt: file.name }), name);
  };
  input.addEventListener("change", show);
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  return {
    root: framed(field, zone),
    file: () => ({ name: field.name, file: input.files[0] ?? null }),
    value: async () => {
      const file = input.files[0];
      if (!file) {
        if (field.optional) return undefined;
        throw missing(field, input);
      }
      return dataUrl(file);
    },
  };
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.replace(/^data:;/, "data:application/octet-stream;")));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}
