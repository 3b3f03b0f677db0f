// The API's documentation: the server's own OpenAPI document as a page, with calls to copy and to try.

import { call } from "./stream.js";
import { make } from "./markdown.js";
import { key } from "./store.js";

const el = (id) => document.getElementById(id);
const DEEPEST = 6;
const SHOWN_CHARACTERS = 100_000; // of an answer

let api = null;

async function load() {
  try {
    api = await (await call("openapi.json", { key: key.get() })).json();
  } catch (error) {
    el("trouble").hidden = false;
    el("trouble").textContent = error.status === 401 ? "This server wants an API key: write it above." : error.message;
    if (error.status === 401) el("key").focus();
    return;
  }
  el("trouble").hidden = true;
  el("version").textContent = `${api.info.version} · OpenAPI ${api.openapi}`;
  el("about").textContent = api.info.description ?? "";
  const operations = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, ...operation })));
  const tags = [...new Set([...api.tags.map(({ name }) => name), ...operations.flatMap(({ tags }) => tags)])];
  const sorted = tags.flatMap((tag) => operations.filter((operation) => operation.tags[0] === tag));
  el("operations").replaceChildren(...sorted.map(section));
  el("index").replaceChildren(...tags.flatMap((tag) => [
    make("h2", {}, tag),
    ...sorted.filter((operation) => operation.tags[0] === tag).map((operation) =>
      make("a", { href: `#${operation.operationId}`, title: operation.summary }, `${operation.method} ${operation.path}`)),
  ]));
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  filter();
}

// --- one operation

function section(operation) {
  const { method, path, operationId, summary } = operation;
  const heading = make("h2", {}, make("span", { class: "method" }, method), make("code", {}, path));
  const made = make("section", { class: "operation", id: operationId, "aria-label": `${method} ${path}` }, heading);
  made.append(make("p", { class: "summary" }, `${summary}. ${keyOf(operation)}`));
  if (operation.parameters?.length) {
    const rows = operation.parameters.map((each) => row(`${each.name} (${each.in})`, each.schema, each.required, each.description));
    made.append(make("h3", {}, "Parameters"), table(rows));
  }
  const body = bodyOf(operation);
  if (body) {
    made.append(make("h3", {}, "Body"), fieldsOf(body.schema, 0));
    const refused = resolved(body.schema)["x-refused-fields"];
    if (refused) made.append(refusals(refused));
  }
  made.append(make("h3", {}, "Call"), curl(operation), tryIt(operation), answers(operation));
  made.dataset.words = `${method} ${path} ${summary} ${made.textContent}`.toLowerCase();
  return made;
}

function keyOf(operation) {
  const schemes = (operation.security ?? []).flatMap((each) => Object.keys(each));
  if (!schemes.length) return "For anyone.";
  return schemes.includes("admin_key") ? "For operators: their key, where there are keys." : "Needs a key, where the server has any.";
}

function bodyOf(operation) {
  const content = operation.requestBody?.content ?? {};
  return content["application/json"] ?? null;
}

function exampleOf(operation) {
  return Object.values(bodyOf(operation)?.examples ?? {})[0]?.value;
}

// --- schemas to tables

function resolved(schema) {
  if (!schema?.$ref) return schema ?? {};
  return api.components.schemas[schema.$ref.split("/").at(-1)] ?? {};
}

function table(rows) {
  const head = make("tr", {}, ...["Field", "Type and bounds", "What it does"].map((text) => make("th", { scope: "col" }, text)));
  return make("div", { class: "wide" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

function fieldsOf(schema, depth) {
  const found = resolved(schema);
  const rows = Object.entries(found.properties ?? {}).map(([name, field]) =>
    row(name, field, found.required?.includes(name), resolved(field).description ?? field.description, depth));
  return rows.length ? table(rows) : make("p", { class: "soft" }, typeOf(found));
}

function row(name, schema, required, description, depth = 0) {
  const first = make("td", {}, make("code", {}, name));
  if (required) first.append(make("span", { class: "needed" }, "needed"));
  const second = make("td", {}, typeOf(schema), make("div", { class: "bounds" }, boundsOf(schema)));
  const inner = depth < DEEPEST ? innerOf(schema) : [];
  const third = make("td", {}, description ?? "");
  for (const [title, part] of inner) {
    const details = make("details", {}, make("summary", {}, title));
    details.addEventListener("toggle", () => { // made when it is asked for: schemas refer to themselves
      if (details.open && details.children.length === 1) details.append(fieldsOf(part, depth + 1));
    });
    third.append(details);
  }
  return make("tr", {}, first, second, third);
}

/** The objects that a field can hold, by title. */
function innerOf(schema) {
  const found = resolved(schema);
  if (found.properties) return [[`Fields of ${found.title ?? "it"}`, found]];
  const parts = [...(found.anyOf ?? []), ...(found.oneOf ?? []), ...(found.items ? [found.items] : [])];
  return parts.flatMap(innerOf);
}

function typeOf(schema) {
  if (schema === true || !schema) return "any";
  if (schema.$ref) return resolved(schema).title ?? schema.$ref.split("/").at(-1);
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const options = schema.anyOf ?? schema.oneOf;
  if (options && !schema.type) return [...new Set(options.map(typeOf))].join(" | ");
  if (Array.isArray(schema.type)) return schema.type.join(" | ");
  if (schema.type === "array") return schema.prefixItems ? "tuple" : `array of ${typeOf(schema.items)}`;
  return schema.type ?? "any";
}

function boundsOf(schema) {
  const told = [];
  for (const option of [schema, ...(schema.anyOf ?? [])]) {
    const { minimum: low, maximum: high, exclusiveMinimum: above, minLength, maxLength, minItems, maxItems, maxProperties } = option;
    if (low !== undefined || above !== undefined || high !== undefined) {
      told.push(`${above !== undefined ? `above ${above}` : `from ${low ?? "−∞"}`}${high === undefined ? "" : ` to ${high}`}`);
    }
    if (maxLength !== undefined) told.push(`${minLength ? `${minLength} to ` : "up to "}${maxLength} characters`);
    if (maxItems !== undefined) told.push(`${minItems ? `${minItems} to ` : "up to "}${maxItems} items`);
    if (maxProperties !== undefined) told.push(`up to ${maxProperties} entries`);
    if (option.pattern) told.push(`like ${option.pattern}`);
  }
  if (schema.default !== undefined && schema.default !== null) told.push(`default ${JSON.stringify(schema.default)}`);
  return [...new Set(told)].join("; ");
}

function refusals(refused) {
  const rows = Object.entries(refused).map(([name, why]) => make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, String(why))));
  return make("details", {}, make("summary", {}, `${rows.length} fields are refused by name`), make("div", { class: "wide" }, make("table", {}, make("tbody", {}, ...rows))));
}

// --- calls

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(operation) {
  const example = exampleOf(operation);
  const lines = [`curl${operation.method === "GET" ? "" : ` -X ${operation.method}`} ${new URL(operation.path.replace(/^\//, ""), document.baseURI).href}`];
  if (operation.security?.length) lines.push('-H "Authorization: Bearer $ROOTSTREAM_API_KEY"');
  if (bodyOf(operation)) lines.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(example ?? {}))}`);
  const text = lines.join(" \\\n  ");
  const copy = make("button", { class: "copy", type: "button", "aria-label": "Copy this call" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  return make("div", { class: "call" }, make("pre", {}, make("code", {}, text)), copy);
}

function tryIt(operation) {
  const details = make("details", { class: "try" }, make("summary", {}, "Try it"));
  const form = make("form");
  const inputs = (operation.parameters ?? []).filter((each) => each.in !== "header").map((each) => {
    const input = make("input", { type: "text", name: each.name, autocomplete: "off" });
    if (each.schema?.enum?.length) input.value = each.schema.enum[0];
    form.append(make("label", {}, each.name, " ", input));
    return { ...each, input };
  });
  let body = null;
  if (bodyOf(operation)) {
    body = make("textarea", { spellcheck: "false" });
    body.value = JSON.stringify(exampleOf(operation) ?? {}, null, 2);
    form.append(make("label", {}, "Body", body));
  }
  const status = make("span", { class: "soft", role: "status" });
  const shown = make("pre", { tabindex: "0", "aria-label": "Answer" });
  const stop = make("button", { type: "button", class: "text" }, "Stop");
  stop.hidden = shown.hidden = true;
  form.append(make("div", { class: "row" }, make("button", { class: "primary" }, "Send"), stop, status), make("div", { class: "answer" }, shown));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const controller = new AbortController();
    stop.onclick = () => controller.abort();
    stop.hidden = false;
    shown.hidden = false;
    shown.textContent = "";
    status.textContent = "Waiting";
    const from = performance.now();
    try {
      const response = await fetch(address(operation, inputs), {
        method: operation.method,
        credentials: "omit",
        signal: controller.signal,
        headers: { ...(key.get() && { Authorization: `Bearer ${key.get()}` }), ...(body && { "Content-Type": "application/json" }) },
        body: body ? body.value : undefined,
      });
      await read(response, shown);
      status.textContent = `${response.status} after ${Math.round(performance.now() - from)} ms`;
    } catch (error) {
      status.textContent = error.name === "AbortError" ? "Stopped" : "The server cannot be reached.";
    }
    stop.hidden = true;
  });
  details.append(form);
  return details;
}

function address(operation, inputs) {
  const query = new URLSearchParams();
  let path = operation.path;
  for (const { name, input, in: place } of inputs) {
    if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (input.value) query.set(name, input.value);
  }
  return path.replace(/^\//, "") + (query.size ? `?${query}` : "") || ".";
}

/** Show an answer as it comes; JSON is laid out at its end. */
async function read(response, shown) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    shown.textContent = text.slice(0, SHOWN_CHARACTERS);
  }
  if (response.headers.get("Content-Type")?.startsWith("application/json")) {
    try { shown.textContent = JSON.stringify(JSON.parse(text), null, 2).slice(0, SHOWN_CHARACTERS); } catch { /* as it came */ }
  }
}

function answers(operation) {
  const details = make("details", {}, make("summary", {}, "Answers"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    for (const [status, answer] of Object.entries(operation.responses)) {
      const found = answer.$ref ? api.components.responses[answer.$ref.split("/").at(-1)] : answer;
      const schema = found.content?.["application/json"]?.schema;
      const kinds = Object.keys(found.content ?? {}).join(", ");
      details.append(make("h3", {}, `${status} ${found.description ?? ""}`), make("p", { class: "soft" }, kinds));
      if (schema && status.startsWith("2")) details.append(fieldsOf(schema, 1));
    }
  });
  return details;
}

// --- the page

function filter() {
  const words = el("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("section.operation")) {
    section.hidden = !words.every((word) => section.dataset.words.includes(word));
    const link = document.querySelector(`#index a[href="#${section.id}"]`);
    if (link) link.hidden = section.hidden;
  }
}

el("find").addEventListener("input", filter);
el("key").value = key.get();
el("key").addEventListener("change", () => { key.set(el("key").value.trim()); load(); });
el("raw").addEventListener("click", (event) => { // a link carries no key
  if (!key.get() || !api) return;
  event.preventDefault();
  const url = URL.createObjectURL(new Blob([JSON.stringify(api, null, 2)], { type: "application/json" }));
  make("a", { href: url, download: "openapi.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
});
load();
