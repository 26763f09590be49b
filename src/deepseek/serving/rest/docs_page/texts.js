// What the page says, in English and in Chinese; the API's own descriptions stay as the server gives them.

const TEXTS = {
  en: {
    filter: "Filter routes", key: "API key", keyHint: "if it is needed", routes: "Routes",
    loading: "Reading /openapi.json …", failed: "/openapi.json cannot be read: ", none: "No route matches.",
    tasks: "Tasks", features: "Features", models: "Models", openai: "OpenAI", server: "Server",
    parameters: "Parameters", body: "Request body", answers: "Answers", schema: "Schema", example: "Example",
    send: "Send", sending: "Sending …", again: "Reset", json: "JSON", form: "Form with files",
    required: "required", several: "Several values are separated by commas.", request: "As a command", answer: "Answer", network: "No answer: ",
    invalid: "This is not JSON: ", bytes: "bytes", language: "中文", languageLabel: "把页面切换成中文",
  },
  zh: {
    filter: "筛选接口", key: "API 密钥", keyHint: "需要时填写", routes: "接口",
    loading: "正在读取 /openapi.json …", failed: "无法读取 /openapi.json：", none: "没有匹配的接口。",
    tasks: "任务", features: "特征", models: "模型", openai: "OpenAI", server: "服务器",
    parameters: "参数", body: "请求体", answers: "响应", schema: "结构", example: "示例",
    send: "发送", sending: "正在发送 …", again: "重置", json: "JSON", form: "带文件的表单",
    required: "必填", several: "多个值用逗号分隔。", request: "命令行写法", answer: "响应内容", network: "没有响应：",
    invalid: "不是有效的 JSON：", bytes: "字节", language: "English", languageLabel: "Show this page in English",
  },
};

let current = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";

/** The text called `name` in the current language. */
export function text(name) {
  return TEXTS[current][name] ?? name;
}

/** Go to the other language. */
export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
  translate(document);
}

/** Fill in the texts of all elements below `root` that name one. */
export function translate(root) {
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  for (const each of root.querySelectorAll("[data-text]")) each.textContent = text(each.dataset.text);
  for (const each of root.querySelectorAll("[data-placeholder]")) each.placeholder = text(each.dataset.placeholder);
  for (const each of root.querySelectorAll("[data-label]")) each.setAttribute("aria-label", text(each.dataset.label));
}
