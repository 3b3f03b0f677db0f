// The chat page: what is shown, and what happens when something is clicked or typed. Streams are stream.js's business, text
// becomes elements in markdown.js, and store.js remembers.

import { ApiError, answer, call, cancel } from "./stream.js";
import { make, show } from "./markdown.js";
import { Chats, key, settings } from "./store.js";

const el = (id) => document.getElementById(id);
const chats = new Chats();
const SAVE_MS = 500;
const READY_MS = 2000;

let running = null; // the answer under way: {chat, message, controller, stopped, view, saved}

// --- messages to elements

function button(text, label, action) {
  const made = make("button", { type: "button", "aria-label": label, title: label }, text);
  made.addEventListener("click", action);
  return made;
}

function copyButton(text) {
  const made = button("Copy", "Copy this message", async () => {
    await navigator.clipboard.writeText(text());
    made.textContent = "Copied";
    setTimeout(() => { made.textContent = "Copy"; }, 1500);
  });
  return made;
}

function render() {
  const { messages } = chats.current;
  el("messages").replaceChildren(...messages.map((message, index) => viewOf(message, index).item));
  el("empty").hidden = messages.length > 0;
  if (running?.chat === chats.current) running.view = views.get(running.message);
  renderList();
  document.title = chats.current.title ? `${chats.current.title} · rootstream` : "rootstream";
  update();
  toEnd();
}

const views = new WeakMap(); // of messages

function viewOf(message, index) {
  const view = message.role === "user" ? userView(message, index) : assistantView(message);
  views.set(message, view);
  return view;
}

function userView(message, index) {
  const body = make("div", { class: "body" }, message.content);
  const marks = make("div", { class: "marks" }, copyButton(() => message.content), button("Edit", "Edit and send again", edit));
  const item = make("li", { class: "user", "aria-label": "You" }, body, marks);
  function edit() {
    const field = make("textarea", { "aria-label": "Message" });
    field.value = message.content;
    const back = button("Cancel", "Leave it as it was", () => { form.replaceWith(body, marks); });
    const form = make("form", {}, field, make("div", {}, back, make("button", { class: "primary" }, "Send")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) send(field.value, index);
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
      if (event.key === "Escape") { event.stopPropagation(); back.click(); }
    });
    marks.remove();
    body.replaceWith(form);
    field.focus();
  }
  return { item };
}

function assistantView(message) {
  const thoughts = make("div", { class: "text-of" });
  const summary = make("summary", {}, "Thoughts");
  const reasoning = make("details", { class: "reasoning" }, summary, thoughts);
  const text = make("div", { class: "text-of" });
  const under = make("div");
  const item = make("li", { class: "assistant", "aria-label": "Model" }, reasoning, text, under);
  const view = { item, reasoning, summary, thoughts, text, under, touched: false };
  summary.addEventListener("click", () => { view.touched = true; });
  fill(view, message);
  return view;
}

/** Bring an answer's elements up to date. */
function fill(view, message) {
  const isWriting = running?.message === message;
  const { content, reasoning } = message;
  view.item.setAttribute("aria-busy", String(isWriting));
  view.reasoning.hidden = !reasoning;
  if (reasoning) {
    show(view.thoughts, reasoning);
    view.summary.textContent = isWriting && !content ? "Thinking" : "Thoughts";
    if (!view.touched) view.reasoning.open = isWriting && !content;
  }
  show(view.text, content);
  view.text.classList.toggle("writing", isWriting && Boolean(content));
  const below = [];
  if (isWriting && running.note) below.push(make("p", { class: "wait" }, running.note));
  if (message.error) below.push(make("div", { class: "error", role: "alert" }, message.error));
  if (message.remark) below.push(make("p", { class: "remark" }, message.remark));
  if (!isWriting) below.push(marksOf(message));
  view.under.replaceChildren(...below);
}

function marksOf(message) {
  const marks = make("div", { class: "marks" });
  if (message.content) marks.append(copyButton(() => message.content));
  if (message === chats.current.messages.at(-1)) marks.append(button("Again", "Ask for another answer", regenerate));
  if (message.figures) {
    const texts = figureTexts(message.figures);
    marks.append(make("span", { class: "figures" }, ...texts.map((text) => make("span", {}, text))));
  }
  return marks;
}

function figureTexts({ first, rate, written, prompt, cached, model }) {
  const found = [];
  if (first !== undefined) found.push(`first token ${first < 1000 ? `${Math.round(first)} ms` : `${(first / 1000).toFixed(1)} s`}`);
  if (rate) found.push(`${rate.toFixed(1)} tokens/s`);
  if (written !== undefined) found.push(`${written} tokens`);
  if (prompt !== undefined) found.push(`prompt ${prompt}, ${cached} cached`);
  if (model) found.push(model);
  return found;
}

function renderList() {
  el("chat-list").replaceChildren(...chats.all.map((chat) => {
    const open = make("button", { class: "open" }, chat.title);
    open.addEventListener("click", () => { chats.open(chat.id); showChats(false); render(); el("input").focus(); });
    const remove = button("×", `Remove ${chat.title}`, () => { stopIf(chat); chats.remove(chat.id); render(); });
    remove.className = "remove";
    const item = make("li", chat === chats.current ? { class: "current" } : {}, open, remove);
    if (chat === chats.current) open.setAttribute("aria-current", "true");
    return item;
  }));
}

// --- asking

function send(text, index = chats.current.messages.length) {
  stopIf(chats.current);
  if (running) return; // in another conversation
  chats.current.messages.splice(index, Infinity, { role: "user", content: text });
  ask(chats.current);
}

function regenerate() {
  if (running) return;
  const { messages } = chats.current;
  while (messages.at(-1)?.role === "assistant") messages.pop();
  if (messages.length) ask(chats.current);
}

function bodyOf(chat) {
  const { system, temperature, maxTokens } = settings.get();
  const said = chat.messages.filter(({ role, content }) => role === "user" || content);
  const messages = said.map(({ role, content }) => ({ role, content }));
  if (system.trim()) messages.unshift({ role: "system", content: system });
  const body = { model: model.value, messages, stream: true, resumable: true, stream_options: { include_usage: true } };
  if (temperature !== "") body.temperature = Number(temperature);
  if (maxTokens !== "") body.max_tokens = Number(maxTokens);
  return body;
}

function ask(chat) {
  const body = bodyOf(chat);
  const message = { role: "assistant", content: "", reasoning: "" };
  chat.messages.push(message);
  follow(chat, message, body);
}

/** Read an answer to its end, one that has just been asked for or one that this tab had begun to read. */
async function follow(chat, message, body) {
  const mine = { chat, message, controller: new AbortController(), stopped: false, note: "Waiting", saved: 0, view: null };
  running = mine;
  chats.save(chat);
  render();
  say("Waiting for the answer");
  const clock = { sent: performance.now(), first: null, last: null };
  try {
    const { signal } = mine.controller;
    const onBroken = (isBroken) => { mine.note = isBroken ? "The connection broke, reconnecting" : message.content ? "" : "Waiting"; refresh(mine); };
    for await (const { id, last, data } of answer({ body, place: message.place ?? null, key: key.get(), signal, onBroken })) {
      message.place = id ? { id, last } : null;
      if (mine.stopped) break;
      take(mine, data, clock);
    }
  } catch (error) {
    if (error.name !== "AbortError") fail(message, error);
  }
  await end(mine);
}

function take(mine, data, clock) {
  const { message } = mine;
  const choice = data.choices?.[0];
  const delta = choice?.delta ?? {};
  const thought = delta.reasoning_content ?? delta.reasoning ?? "";
  if (thought || delta.content) {
    clock.last = performance.now();
    if (clock.first === null) {
      clock.first = clock.last;
      if (!message.content && !message.reasoning) message.first = clock.first - clock.sent;
    }
    mine.note = "";
    message.reasoning += thought;
    message.content += delta.content ?? "";
  }
  if (delta.refusal) message.content += delta.refusal;
  if (choice?.finish_reason === "length") message.remark = "Cut off here: no more tokens were allowed.";
  if (choice?.finish_reason === "abort") message.remark = "Ended by the server.";
  if (data.usage) {
    const { usage } = data;
    const seconds = (clock.last - clock.first) / 1000;
    message.figures = {
      first: message.first,
      rate: seconds > 0 && usage.completion_tokens > 1 ? (usage.completion_tokens - 1) / seconds : null,
      written: usage.completion_tokens,
      prompt: usage.prompt_tokens,
      cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
      model: data.model,
    };
  }
  refresh(mine);
  if (performance.now() - mine.saved > SAVE_MS) { mine.saved = performance.now(); chats.save(mine.chat); }
}

function fail(message, error) {
  if (!(error instanceof ApiError)) console.error(error);
  message.error = error instanceof ApiError ? error.message : "This page failed; the browser’s console says why.";
  if (error.status === 401 || error.status === 403) {
    message.error = key.get() ? "This API key is not known here." : "This server wants an API key.";
    openSettings("key");
  }
  if (error.retryAfter) message.error += ` Try again in ${error.retryAfter} s.`;
  if (error.status === 0 || error.status >= 500) watchState();
}

async function end(mine) {
  const { message, chat } = mine;
  if (mine.stopped) {
    message.remark = "Stopped.";
    if (message.place) cancel(message.place.id, key.get()).catch(() => {}); // over already, or forgotten
  }
  delete message.place;
  if (running === mine) running = null;
  chats.save(chat);
  if (chat === chats.current) {
    const view = views.get(message);
    if (view) fill(view, message);
  }
  renderList();
  update();
  stick();
  say(message.error ? "" : mine.stopped ? "Stopped" : "Answer complete");
}

/** End the answer under way. Until its id is known its connection is kept: without one it could not be cancelled. */
function stop() {
  if (!running) return;
  running.stopped = true;
  running.note = "Stopping";
  if (running.message.place) running.controller.abort();
  else refresh(running);
}

function stopIf(chat) {
  if (running?.chat !== chat) return;
  const mine = running;
  stop();
  running = null; // the rest of it is of no concern here
  delete mine.view;
}

let frame = 0;

function refresh(mine) {
  if (running !== mine || mine.chat !== chats.current) return;
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (!running?.view) return;
    const atEnd = isAtEnd();
    fill(running.view, running.message);
    if (atEnd) toEnd();
    update();
  });
}

// --- the page around it

const main = el("main");
let sticks = true;

const isAtEnd = () => main.scrollHeight - main.scrollTop - main.clientHeight < 60;
const toEnd = () => { main.scrollTop = main.scrollHeight; };
const stick = () => { if (sticks) toEnd(); };

main.addEventListener("scroll", () => { sticks = isAtEnd(); el("to-end").hidden = sticks; }, { passive: true });
el("to-end").addEventListener("click", toEnd);

function say(text) { el("said").textContent = text; }

function update() {
  const isRunning = Boolean(running);
  el("send").hidden = isRunning;
  el("stop").hidden = !isRunning;
  el("send").disabled = !el("input").value.trim();
  el("clear").disabled = chats.all.length === 0;
  el("to-end").hidden = isAtEnd();
}

function grow() {
  const input = el("input");
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

el("input").addEventListener("input", () => { grow(); update(); });
el("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    el("composer").requestSubmit();
  }
});
el("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = el("input").value;
  if (!text.trim() || running) return;
  el("input").value = "";
  grow();
  send(text);
});
el("stop").addEventListener("click", () => { stop(); el("input").focus(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !el("settings").open) document.body.classList.contains("with-chats") && !running ? showChats(false) : stop();
});
el("new").addEventListener("click", () => { chats.begin(); showChats(false); render(); el("input").focus(); });
el("clear").addEventListener("click", () => { if (running) stopIf(running.chat); chats.clear(); render(); el("input").focus(); });

function showChats(shown) {
  document.body.classList.toggle("with-chats", shown);
  el("open-chats").setAttribute("aria-expanded", String(shown));
}
el("open-chats").addEventListener("click", () => showChats(!document.body.classList.contains("with-chats")));

// --- settings

function openSettings(focus) {
  if (el("settings").open) return; // somebody is at it
  const known = settings.get();
  el("system").value = known.system;
  el("temperature").value = known.temperature;
  el("max-tokens").value = known.maxTokens;
  el("theme").value = known.theme;
  el("key").value = key.get();
  el("settings").showModal();
  if (focus) el(focus).focus();
}

function keepSettings() {
  const isNew = el("key").value.trim() !== key.get();
  settings.set({
    system: el("system").value,
    temperature: el("temperature").validity.valid ? el("temperature").value : "",
    maxTokens: el("max-tokens").validity.valid ? el("max-tokens").value : "",
    theme: el("theme").value,
  });
  key.set(el("key").value.trim());
  applyTheme();
  if (isNew) readModels();
}

function applyTheme() { document.documentElement.dataset.theme = settings.get().theme; }

el("open-settings").addEventListener("click", () => openSettings());
el("settings").addEventListener("close", () => { keepSettings(); el("input").focus(); });
el("settings").addEventListener("click", (event) => { if (event.target === el("settings")) el("settings").close(); });

// --- the server

const model = { value: "" };

async function readModels() {
  try {
    const { data } = await (await call("v1/models", { key: key.get() })).json();
    const names = data.map(({ id }) => id);
    model.value = names.includes(settings.get().model) ? settings.get().model : (names[0] ?? "");
    el("model").replaceChildren(...names.map((name) => make("option", {}, name)));
    el("model").value = model.value;
    el("model").hidden = names.length < 2;
    el("model-name").textContent = names.length < 2 ? model.value : "";
  } catch (error) {
    if (error.status === 401) openSettings("key");
  }
}
el("model").addEventListener("change", () => { model.value = el("model").value; settings.set({ model: model.value }); });

let watching = 0;

/** Say that the server is not ready, until it is. */
async function watchState() {
  clearTimeout(watching);
  let state = "";
  try {
    const response = await fetch("ready", { cache: "no-store", credentials: "omit" });
    if (!response.ok) state = "not ready yet";
  } catch { state = "not reachable"; }
  el("state").textContent = state;
  if (state) watching = setTimeout(watchState, READY_MS);
  else if (!model.value) readModels();
}

applyTheme();
render();
grow();
readModels();
watchState();
el("input").focus();
const left = chats.all.find((chat) => chat.messages.at(-1)?.place); // an answer that this tab was reading when it was reloaded
if (left) {
  chats.open(left.id);
  follow(left, left.messages.at(-1), null);
}
