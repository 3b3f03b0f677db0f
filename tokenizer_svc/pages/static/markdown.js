// Markdown to elements. Text of a model becomes text nodes, never markup: nothing here parses HTML. Every scan is linear in
// the length of its line, and nesting ends at a depth.

const DEEPEST = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?: +|$)(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const DELIMITERS = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const SAFE_LINK = /^(?:https?:\/\/|mailto:)/i;
const BARE_LINK = /^https?:\/\/[^\s<>"'`]+/i;

/** Show a text in an element. Blocks that have not changed since the last call keep their elements. */
export function show(element, text) {
  const sources = blocks(text.replace(/\r\n?/g, "\n").split("\n"));
  const before = shown.get(element) ?? [];
  const now = sources.map((lines, index) => {
    const source = lines.join("\n");
    return before[index]?.source === source ? before[index] : { source, node: block(lines, 0) };
  });
  now.forEach(({ node }, index) => {
    if (element.childNodes[index] !== node) {
      if (index < element.childNodes.length) element.replaceChild(node, element.childNodes[index]);
      else element.append(node);
    }
  });
  while (element.childNodes.length > now.length) element.lastChild.remove();
  shown.set(element, now);
}

const shown = new WeakMap();

/** An element with attributes and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// --- blocks: lines to groups of lines, each one block

function blocks(lines) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) { at++; continue; }
    const end = endOf(lines, at);
    found.push(lines.slice(at, end));
    at = end;
  }
  return found;
}

function endOf(lines, at) {
  const line = lines[at];
  const fence = fenceOf(line);
  if (fence) {
    for (let end = at + 1; end < lines.length; end++) if (closes(lines[end], fence.mark)) return end + 1;
    return lines.length;
  }
  if (HEADING.test(line) || RULE.test(line)) return at + 1;
  if (ITEM.test(line)) return endOfList(lines, at);
  const holds = QUOTE.test(line) ? (next) => QUOTE.test(next) || !begins(next) : (next) => !begins(next);
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && holds(lines[end])) end++;
  return end;
}

/** The mark that opens a block of code, and its language; null where a line opens none. */
function fenceOf(line) {
  const found = FENCE.exec(line);
  if (!found || (found[1][0] === "`" && found[2].includes("`"))) return null;
  return { mark: found[1], language: found[2].trim().split(/\s/, 1)[0] };
}

function closes(line, fence) {
  const trimmed = line.trim();
  return trimmed.length >= fence.length && trimmed === fence[0].repeat(trimmed.length);
}

function begins(line) {
  return fenceOf(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
}

function endOfList(lines, at) {
  const ordered = isOrdered(lines[at]);
  let end = at + 1, blank = false, fence = null;
  for (; end < lines.length; end++) {
    const line = lines[end];
    if (fence) { if (closes(line, fence)) fence = null; continue; }
    if (!line.trim()) { blank = true; continue; }
    const inside = /^(?: {2,}|\t)/.test(line);
    if (inside) fence = fenceOf(line.trimStart())?.mark ?? null;
    else if (ITEM.test(line) ? isOrdered(line) !== ordered || RULE.test(line) : blank || begins(line)) break;
    blank = false;
  }
  while (!lines[end - 1].trim()) end--;
  return end;
}

const indentOf = (line) => (line.startsWith("\t") ? 4 : line.length - line.trimStart().length);
const isOrdered = (line) => /^\s*\d/.test(line);

// --- one block to an element

function block(lines, depth) {
  const fence = fenceOf(lines[0]);
  if (fence) return codeBlock(lines, fence);
  const heading = HEADING.exec(lines[0]);
  if (heading) return make(`h${heading[1].length}`, {}, ...inline(unmarked(heading[2] ?? "")));
  if (RULE.test(lines[0])) return make("hr");
  if (depth < DEEPEST) {
    if (QUOTE.test(lines[0])) {
      const inner = lines.map((line) => QUOTE.exec(line)?.[1] ?? line);
      return make("blockquote", {}, ...blocks(inner).map((each) => block(each, depth + 1)));
    }
    if (ITEM.test(lines[0])) return list(lines, depth);
  }
  if (lines.length > 1 && lines[0].includes("|") && lines[1].length < 1000 && DELIMITERS.test(lines[1])) return table(lines);
  return make("p", {}, ...inline(lines.map((line) => line.trimStart()).join("\n")));
}

/** A heading without the marks that may close it. */
function unmarked(heading) {
  let end = heading.trimEnd().length;
  while (heading[end - 1] === "#") end--;
  return end === 0 || /\s/.test(heading[end - 1]) ? heading.slice(0, end).trim() : heading.trim();
}

function codeBlock(lines, fence) {
  const closed = lines.length > 1 && closes(lines.at(-1), fence.mark);
  const code = lines.slice(1, closed ? -1 : undefined).join("\n");
  const copy = make("button", { type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  const pre = make("pre", { tabindex: "0" }, make("code", {}, code));
  return make("div", { class: "block" }, pre, make("div", { class: "label" }, fence.language.slice(0, 24), copy));
}

function list(lines, depth) {
  const ordered = isOrdered(lines[0]);
  const items = [];
  let loose = false, fence = null, width = 0;
  for (const line of lines) {
    const item = fence || (items.length && indentOf(line) >= width) ? null : ITEM.exec(line);
    if (item) {
      items.push([item[3]]);
      width = item[1].length + item[2].length + 1; // what stands this far in belongs to the item
    } else {
      const inner = line.startsWith("\t") ? line.slice(1) : line.slice(Math.min(indentOf(line), width));
      fence = fence ? (closes(inner, fence) ? null : fence) : (fenceOf(inner.trimStart())?.mark ?? null);
      if (!line.trim()) loose = true;
      items.at(-1).push(inner);
    }
  }
  const made = make(ordered ? "ol" : "ul");
  const start = ordered ? parseInt(lines[0], 10) : 1;
  if (start !== 1) made.setAttribute("start", start);
  for (const content of items) {
    const task = /^\[([ xX])\] /.exec(content[0]);
    if (task) content[0] = content[0].slice(4);
    const parts = blocks(content).map((each) => block(each, depth + 1));
    const flat = parts.flatMap((part) => (!loose && part.tagName === "P" ? [...part.childNodes] : [part]));
    const item = make("li", {}, ...flat);
    if (task) item.prepend(task[1] === " " ? "☐ " : "☑ ");
    made.append(item);
  }
  return made;
}

function table(lines) {
  const cells = (line) => {
    const found = line.trim().replace(/^\|/, "").replace(/\|$/, "").split(/(?<!\\)\|/);
    return found.map((cell) => cell.trim().replaceAll("\\|", "|"));
  };
  const heads = cells(lines[0]);
  const row = (line) => make("tr", {}, ...heads.map((_, index) => make("td", {}, ...inline(cells(line)[index] ?? ""))));
  const head = make("tr", {}, ...heads.map((cell) => make("th", { scope: "col" }, ...inline(cell))));
  const body = make("tbody", {}, ...lines.slice(2).map(row));
  return make("div", { class: "table", tabindex: "0" }, make("table", {}, make("thead", {}, head), body));
}

// --- inside a block: text to nodes

function inline(text, depth = 0) {
  const nodes = [];
  let plain = "";
  const flush = () => { if (plain) nodes.push(plain); plain = ""; };
  const missing = new Set(); // marks that do not come again: looked for once
  const find = (mark, from) => {
    if (missing.has(mark)) return -1;
    const at = text.indexOf(mark, from);
    if (at < 0) missing.add(mark);
    return at;
  };
  let at = 0;
  while (at < text.length) {
    const here = text[at];
    if (here === "\\" && at + 1 < text.length && /[!-/:-@[-`{-~]/.test(text[at + 1])) {
      plain += text[at + 1];
      at += 2;
      continue;
    }
    if (here === "\n") {
      if (plain.endsWith("  ") || plain.endsWith("\\")) {
        plain = plain.replace(/(?: +|\\)$/, "");
        flush();
        nodes.push(make("br"));
      } else plain += "\n";
      at++;
      continue;
    }
    const found = depth < DEEPEST ? special(text, at, find, depth) : null;
    if (found) {
      flush();
      nodes.push(found.node);
      at = found.end;
    } else {
      const run = /[*_~`]/.test(here) ? runOf(text, at) : 1;
      plain += text.slice(at, at + run);
      at += run;
    }
  }
  flush();
  return nodes;
}

function runOf(text, at) {
  let end = at + 1;
  while (text[end] === text[at]) end++;
  return end - at;
}

function special(text, at, find, depth) {
  switch (text[at]) {
    case "`": return codeSpan(text, at, find);
    case "*": case "_": case "~": return emphasis(text, at, find, depth);
    case "!": return text[at + 1] === "[" ? link(text, at + 1, find, depth) : null; // pictures are not loaded: a link to them
    case "[": return link(text, at, find, depth);
    case "<": return angled(text, at);
    case "h": case "H": return bare(text, at);
    default: return null;
  }
}

function codeSpan(text, at, find) {
  const run = runOf(text, at);
  const mark = "`".repeat(run);
  let end = find(mark, at + run);
  while (end >= 0 && runOf(text, end) !== run) end = find(mark, end + runOf(text, end));
  if (end < 0) return null;
  const code = text.slice(at + run, end).replaceAll("\n", " ");
  const padded = /^ .*[^ ].* $/.test(code);
  return { node: make("code", {}, padded ? code.slice(1, -1) : code), end: end + run };
}

function emphasis(text, at, find, depth) {
  const run = Math.min(runOf(text, at), 3);
  const mark = text[at].repeat(run);
  const after = text[at + run] ?? " ";
  const before = text[at - 1] ?? " ";
  if (/\s/.test(after) || (text[at] === "~" && run !== 2) || (text[at] === "_" && /\w/.test(before))) return null;
  for (let end = find(mark, at + run), tries = 0; end >= 0 && tries < 32; end = find(mark, end + 1), tries++) {
    const next = text[end + run] ?? " ";
    const spaced = /\s/.test(text[end - 1]) || (text[at] === "_" && /\w/.test(next));
    if (end > at + run - 1 && !spaced && text[end - 1] !== text[at] && next !== text[at] && text[end - 1] !== "\\") {
      const inner = inline(text.slice(at + run, end), depth + 1);
      const tag = text[at] === "~" ? "del" : run === 1 ? "em" : "strong";
      const node = make(tag, {}, ...inner);
      return { node: run === 3 ? make("em", {}, node) : node, end: end + run };
    }
  }
  return null;
}

const LONGEST_LINK = 2048;

function link(text, at, find, depth) {
  if (find("](", at) < 0) return null;
  let open = 0, close = at;
  const most = Math.min(text.length, at + LONGEST_LINK);
  for (; close < most; close++) {
    if (text[close] === "\\") close++;
    else if (text[close] === "[") open++;
    else if (text[close] === "]" && --open === 0) break;
  }
  if (text[close] !== "]" || text[close + 1] !== "(") return null;
  let end = close + 2;
  for (let round = 1; end < most; end++) {
    if (text[end] === "(") round++;
    else if (text[end] === ")" && --round === 0) break;
  }
  if (text[end] !== ")") return null;
  const target = text.slice(close + 2, end).trim().split(/\s/)[0].replace(/^<|>$/g, "");
  const label = inline(text.slice(at + 1, close), depth + 1);
  return { node: SAFE_LINK.test(target) ? anchor(target, label) : make("span", {}, ...label), end: end + 1 };
}

function angled(text, at) {
  const end = text.indexOf(">", at);
  if (end < 0 || end - at > LONGEST_LINK) return null;
  const target = text.slice(at + 1, end);
  return SAFE_LINK.test(target) && !/\s/.test(target) ? { node: anchor(target, [target]), end: end + 1 } : null;
}

function bare(text, at) {
  if (/\w/.test(text[at - 1] ?? "")) return null;
  const found = BARE_LINK.exec(text.slice(at, at + LONGEST_LINK));
  if (!found) return null;
  let target = found[0].replace(/[.,;:!?*_~]+$/, "");
  if (target.endsWith(")") && !target.includes("(")) target = target.slice(0, -1);
  return { node: anchor(target, [target]), end: at + target.length };
}

function anchor(target, label) {
  return make("a", { href: target, target: "_blank", rel: "noopener noreferrer nofollow" }, ...label);
}
