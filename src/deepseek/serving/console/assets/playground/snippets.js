// The request as a command and as Python, to copy. A key is named, never written out.

import { h, fill } from "../core/dom.js";
import { ROOT } from "../core/api.js";
import { t } from "../core/i18n.js";
import { choice } from "../parts/cards.js";
import { code } from "../parts/dialogs.js";

const KEY = "DEEPSEEK_KEY";
const WIDTH = 88;

/** A box with one snippet a tab; `show({ curl, Python })`. */
export function snippetBox() {
  const names = ["curl", "Python"];
  let chosen = names[0];
  let texts = {};
  const place = h("div");
  const draw = () =>
    fill(place, texts[chosen] ? code(texts[chosen], chosen) : h("p", { class: "hint" }, t("play.unfinished")));
  const root = h(
    "div",
    { class: "snippets" },
    choice(
      names.map((name) => [name, name]),
      chosen,
      (name) => {
        chosen = name;
        draw();
      },
      t("play.same"),
    ),
    place,
  );
  draw();
  return {
    root,
    show(next) {
      texts = next;
      draw();
    },
  };
}

/** A task request. `files`: `{ name, file }` of inputs that are files; they are named instead of written out. */
export function taskSnippets(task, body, { keys, files }) {
  const url = `${ROOT}v1/tasks/${task}`;
  const named = files.filter(({ file }) => file);
  return { curl: taskCurl(url, body, keys, named), Python: taskPython(url, body, keys, named) };
}

function taskCurl(url, body, keys, files) {
  const line = (...parts) => parts.flat().join(" \\\n  ");
  const head = ["curl", quote(url), ...(keys ? [`-H "authorization: Bearer $${KEY}"`] : [])];
  const typed = [...head, "-H 'content-type: application/json'"];
  if (!files.length) return line(typed, `-d ${quote(literal(body, JSON_STYLE))}`);
  const rows = [body.inputs].flat();
  const alike = rows.every((row) => Object.keys(row).join() === Object.keys(rows[0]).join());
  if (alike) return line(head, formFields(body, rows, files));
  // a form's columns are equally long; so here the shell reads the files into the JSON, and curl reads that from a pipe
  const style = {
    ...JSON_STYLE,
    text: (value) => JSON.stringify(value).replaceAll("\\", "\\\\").replaceAll("%", "%%"),
    file: () => '"data:%s;base64,%s"',
  };
  const values = files.map(({ file }) => `${kindOf(file)} "$(base64 < ${quote(file.name)} | tr -d '\\n')"`).join(" ");
  return `printf ${quote(literal(body, style, files))} ${values} |\n${line(typed, "-d @-")}`;
}

/** A form: files by name, texts as they are, all else written as in JSON. */
function formFields({ model, parameters = {} }, rows, files) {
  const left = [...files];
  const field = ([name, value]) => {
    if (left[0]?.name === name && isContents(value)) {
      const { file } = left.shift();
      return `-F ${quote(`${name}=@"${file.name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`)}`;
    }
    return `--form-string ${quote(`${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)}`;
  };
  return [
    `--form-string ${quote(`model=${model}`)}`,
    ...rows.flatMap((row) => Object.entries(row).map(field)),
    ...Object.entries(parameters).map(field),
  ];
}

const isContents = (value) => typeof value === "string" && /^data:[^,]*;base64,/.test(value);

function taskPython(url, body, keys, files) {
  const lines = [
    ...(files.length ? ["import base64"] : []),
    ...(keys ? ["import os"] : []),
    ...(files.length ? ["from pathlib import Path"] : []),
    ...(files.length || keys ? [""] : []),
    "import requests",
    "",
    ...(files.length
      ? [
          "",
          "def data_url(path, kind):",
          '    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"',
          "",
          "",
        ]
      : []),
    "response = requests.post(",
    `    ${JSON.stringify(url)},`,
    ...(keys ? [`    headers={"authorization": f"Bearer {os.environ['${KEY}']}"},`] : []),
    `    json=${indented(literal(body, PYTHON_STYLE, files))},`,
    "    timeout=60,",
    ")",
    "response.raise_for_status()",
    'print(response.json()["outputs"])',
  ];
  return lines.join("\n");
}

/** A chat request, for curl and for OpenAI's client. */
export function chatSnippets(body, { keys }) {
  const url = `${ROOT}v1/chat/completions`;
  const { model, messages, stream, ...rest } = body;
  const curl = [
    "curl -N",
    quote(url),
    "-H 'content-type: application/json'",
    ...(keys ? [`-H "authorization: Bearer $${KEY}"`] : []),
    `-d ${quote(literal(body, JSON_STYLE))}`,
  ].join(" \\\n  ");
  const more = Object.entries(rest)
    .filter(([name]) => name !== "stream_options")
    .map(([name, value]) => `    ${name}=${literal(value, PYTHON_STYLE)},`);
  const text = [
    ...(keys ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(`${ROOT}v1`)}, api_key=${keys ? `os.environ["${KEY}"]` : '"none"'})`,
    "stream = client.chat.completions.create(",
    `    model=${JSON.stringify(model)},`,
    `    messages=${indented(literal(messages, PYTHON_STYLE))},`,
    ...more,
    `    stream=${literal(stream, PYTHON_STYLE)},`,
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ].join("\n");
  return { curl, Python: text };
}

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

const kindOf = (file) => file.type || "application/octet-stream";

const JSON_STYLE = {
  words: { null: "null", true: "true", false: "false" },
  last: "",
  text: (value) => JSON.stringify(value),
};
const PYTHON_STYLE = {
  words: { null: "None", true: "True", false: "False" },
  last: ",",
  text: (value) => JSON.stringify(value),
  file: (file) => `data_url(${JSON.stringify(file.name)}, ${JSON.stringify(kindOf(file))})`,
};

/** A JSON value, on one line where it is short. Contents of `files`, in their order, are written by `style.file`. */
export function literal(value, style, files = [], depth = 0, left = [...files]) {
  if (value === null || typeof value === "boolean") return style.words[value];
  if (typeof value === "string") {
    return left.length && isContents(value) ? style.file(left.shift().file) : style.text(value);
  }
  if (typeof value !== "object") return String(value);
  const inner = (each) => literal(each, style, files, depth + 1, left);
  const items = Array.isArray(value)
    ? value.map(inner)
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${inner(each)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const line = `${open}${items.join(", ")}${close}`;
  if (line.length <= WIDTH - 4 * depth && !line.includes("\n")) return line;
  const pad = "    ".repeat(depth + 1);
  return `${open}\n${pad}${items.join(`,\n${pad}`)}${style.last}\n${"    ".repeat(depth)}${close}`;
}

function indented(text) {
  return text.replaceAll("\n", "\n    ");
}
