// What this tab remembers, until it is closed: conversations, settings, the API key. Nothing leaves it.

const CHATS = "rootstream.chats", SETTINGS = "rootstream.settings", KEY = "rootstream.key";
const MOST_CHATS = 50;

function read(name, otherwise) {
  try { return JSON.parse(sessionStorage.getItem(name)) ?? otherwise; } catch { return otherwise; }
}

function write(name, value) {
  try { sessionStorage.setItem(name, JSON.stringify(value)); } catch { /* full or forbidden: it lives as long as the page */ }
}

/**
 * Conversations, newest first: `{id, title, messages}`. A message is `{role, content}`, of the assistant also `reasoning`,
 * `figures`, `error`, `remark`, and `place` while it is being written.
 */
export class Chats {
  constructor() {
    this.all = read(CHATS, []);
    this.current = this.all[0] ?? this.#fresh();
  }

  #fresh() { return { id: crypto.randomUUID?.() ?? String(Math.random()), title: "", messages: [] }; }

  begin() { this.current = this.#fresh(); }

  open(id) { this.current = this.all.find((chat) => chat.id === id) ?? this.current; }

  remove(id) {
    this.all = this.all.filter((chat) => chat.id !== id);
    if (this.current.id === id) this.current = this.all[0] ?? this.#fresh();
    this.#write();
  }

  clear() {
    this.all = [];
    this.begin();
    this.#write();
  }

  /** Remember the current conversation as it is now. */
  save(chat = this.current) {
    if (chat.messages.length && (chat === this.current || this.all.includes(chat))) {
      chat.title ||= chat.messages[0].content.slice(0, 60);
      this.all = [chat, ...this.all.filter((other) => other !== chat)].slice(0, MOST_CHATS);
    }
    this.#write();
  }

  #write() { write(CHATS, this.all); }
}

export const settings = {
  get: () => ({ system: "", temperature: "", maxTokens: "", theme: "", model: "", ...read(SETTINGS, {}) }),
  set: (values) => write(SETTINGS, { ...settings.get(), ...values }),
};

export const key = {
  get: () => read(KEY, ""),
  set: (value) => (value ? write(KEY, value) : sessionStorage.removeItem(KEY)),
};
