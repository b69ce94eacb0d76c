// The assistant on a shop's own page. One line puts it there:
//
//   <script src="https://SERVER/widget.js" data-key="KEY" data-model="customer-service" async></script>
//
// data-key is a key with `origins` in the server's file of keys, data-model one of its models. If wanted: data-language
// (en or zh), data-title, data-greeting, data-theme (light or dark), data-color (#rrggbb, of the button and what the
// customer says). A Content-Security-Policy of the page needs the server in script-src and connect-src, nothing else.
// Everything stands in a shadow root; what the model writes becomes text and a few elements, never markup.

(() => {
  "use strict";

  const WORDS = {};
  const ICONS = {
    chat: "M5.5 5h13A2.5 2.5 0 0 1 21 7.5v7a2.5 2.5 0 0 1-2.5 2.5H11l-5 4v-4h-.5A2.5 2.5 0 0 1 3 14.5v-7A2.5 2.5 0 0 1 5.5 5z",
    close: "M6 6l12 12M18 6L6 18",
    fresh: "M11 5H6.5A2.5 2.5 0 0 0 4 7.5v10A2.5 2.5 0 0 0 6.5 20h10a2.5 2.5 0 0 0 2.5-2.5V13M10 14l.5-3L18 3.5 20.5 6 13 13.5z",
    send: "M12 19V5.5M5.5 12L12 5.5l6.5 6.5",
    stop: "M8 8h8v8H8z",
  };
  const CSS = `
:host { all: initial !important; position: fixed !important; inset: auto 0 0 auto !important; z-index: 2147483000 !important; }
@media print { :host { display: none !important; } }
[hidden] { display: none !important; }
* { box-sizing: border-box; }
.root { --ground: #ffffff; --raised: #f1f3f6; --text: #1c2127; --faint: #5b6470; --line: #d9dde3; --bad: #b3261e; --ring: #0b57d0;
  --accent: #1f5fd0; --on-accent: #ffffff; --shadow: 0 12px 40px #0f172a33, 0 2px 8px #0f172a1f; color-scheme: light;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
  color: var(--text); text-align: start; -webkit-text-size-adjust: 100%; }
.root[data-theme="dark"] { --ground: #191c21; --raised: #282d34; --text: #e8eaed; --faint: #a7b0bb; --line: #3b424c; --bad: #f4aaa4;
  --ring: #8ab4f8; --accent: #2f6fdf; --shadow: 0 12px 40px #000000a6, 0 0 0 1px #3b424c; color-scheme: dark; }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; margin: 0; cursor: pointer; }
svg { display: block; width: 20px; height: 20px; fill: none; stroke: currentColor; stroke-width: 1.9; stroke-linecap: round;
  stroke-linejoin: round; }
:focus-visible { outline: 2px solid var(--ring); outline-offset: 2px; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

.launcher { position: fixed; right: 20px; bottom: 20px; width: 58px; height: 58px; border-radius: 50%; display: grid; place-items: center;
  background: var(--accent); color: var(--on-accent); box-shadow: 0 6px 20px #0f172a40, 0 1px 4px #0f172a33; transition: transform .15s; }
.launcher:hover { transform: scale(1.06); }
.launcher:focus-visible { outline-offset: 3px; outline-width: 3px; }
.launcher svg { width: 27px; height: 27px; }
.launcher[data-unread]::after { content: ""; position: absolute; top: 2px; right: 2px; width: 14px; height: 14px; border-radius: 50%;
  background: #c62828; border: 2px solid #ffffff; }

.panel { position: fixed; right: 20px; bottom: 20px; width: 390px; height: min(640px, calc(100vh - 40px)); display: flex;
  flex-direction: column; background: var(--ground); border-radius: 18px; box-shadow: var(--shadow); overflow: hidden;
  animation: rise .18s ease-out; outline: none; }
@keyframes rise { from { opacity: 0; transform: translateY(12px); } }
header { display: flex; align-items: center; gap: 4px; padding: 12px 10px 12px 16px; border-bottom: 1px solid var(--line); flex: none; }
.mark { width: 34px; height: 34px; border-radius: 50%; display: grid; place-items: center; background: var(--accent); color: var(--on-accent);
  flex: none; margin-right: 7px; }
.mark svg { width: 18px; height: 18px; }
h2 { font: inherit; font-weight: 600; font-size: 16px; margin: 0; flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.icon { width: 36px; height: 36px; border-radius: 10px; display: grid; place-items: center; color: var(--faint); flex: none; }
.icon:hover { background: var(--raised); color: var(--text); }

.log { flex: 1; min-height: 0; overflow-y: auto; overscroll-behavior: contain; padding: 16px 16px 8px; outline-offset: -3px;
  scrollbar-width: thin; scrollbar-color: var(--line) transparent; }
.turn { display: flex; flex-direction: column; align-items: flex-start; margin: 0 0 12px; }
.turn.user { align-items: flex-end; }
.text { max-width: 88%; padding: 9px 13px; border-radius: 16px; overflow-wrap: anywhere; background: var(--raised);
  border-end-start-radius: 5px; }
.user .text { background: var(--accent); color: var(--on-accent); white-space: pre-wrap; border-radius: 16px; border-end-end-radius: 5px; }
.text p, .text ul, .text ol { margin: 0 0 .55em; } .text > :last-child { margin-bottom: 0; }
.text ul, .text ol { padding-inline-start: 1.35em; } .text li { margin: .15em 0; }
.text a { color: inherit; text-decoration: underline; text-underline-offset: 2px; overflow-wrap: anywhere; }
.text a:hover { text-decoration-thickness: 2px; }
.note { color: var(--faint); font-size: 13px; margin: 5px 4px 0; }
.gone { margin: 0 0 12px; text-align: center; }
.dots { display: flex; gap: 5px; padding: 7px 1px; }
.dots i { width: 7px; height: 7px; border-radius: 50%; background: var(--faint); animation: beat 1.2s infinite; }
.dots i:nth-child(2) { animation-delay: .2s; } .dots i:nth-child(3) { animation-delay: .4s; }
@keyframes beat { 0%, 60%, 100% { opacity: .3; } 30% { opacity: 1; } }
.trouble { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 10px; margin: 0 0 12px; padding: 9px 13px;
  border: 1px solid var(--line); border-inline-start: 3px solid var(--bad); border-radius: 3px 10px 10px 3px; font-size: 14px; }
.trouble p { margin: 0; flex: 1 1 60%; overflow-wrap: anywhere; }
.again { font-weight: 600; font-size: 14px; padding: 4px 12px; border-radius: 8px; border: 1px solid var(--line); background: var(--ground); }
.again:hover:not(:disabled) { background: var(--raised); }
.again:disabled { color: var(--faint); cursor: default; }

footer { flex: none; padding: 4px 12px 10px; }
.box { display: flex; align-items: flex-end; border: 1px solid var(--faint); border-radius: 16px; padding: 4px; background: var(--ground); }
.box:focus-within { border-color: var(--ring); box-shadow: 0 0 0 1px var(--ring); }
textarea { flex: 1; min-width: 0; font: inherit; font-size: 16px; line-height: 24px; color: var(--text); background: none; border: 0;
  outline: none; resize: none; padding: 6px 8px; margin: 0; height: 36px; max-height: 132px; overflow-y: auto; }
textarea:focus-visible { outline: none; }
textarea::placeholder { color: var(--faint); opacity: 1; }
.send { width: 36px; height: 36px; border-radius: 12px; display: grid; place-items: center; background: var(--accent);
  color: var(--on-accent); flex: none; }
.send[aria-disabled="true"] { background: var(--raised); color: var(--faint); cursor: default; }
.send[data-stops] svg { fill: currentColor; }
.machine { font-size: 12px; line-height: 1.4; color: var(--faint); text-align: center; margin: 7px 0 0; }

@media (max-width: 480px) {
  .panel { inset: 0; width: auto; height: 100%; height: 100dvh; border-radius: 0; box-shadow: none; animation: none; }
  footer { padding-bottom: max(10px, env(safe-area-inset-bottom)); }
  .launcher { right: 16px; bottom: max(16px, env(safe-area-inset-bottom)); }
  .icon { width: 44px; height: 44px; } .send, textarea { min-height: 44px; } .send { width: 44px; } textarea { padding: 10px 8px; }
}
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
@media (forced-colors: active) { .panel, .launcher, .text, .send, .mark { border: 1px solid; } .dots i { background: CanvasText; } }
`;

  // One widget for a page, however often the script stands there. Pages that swap their body get it back.
  const MARK = Symbol.for("glassgpt.widget");
  const here = document.currentScript;
  const before = document[MARK];
  if (before) {
    if (document.body && !before.isConnected) document.body.append(before);
    return;
  }
  const given = here ? here.dataset : {};
  if (!given.key || !given.model || !here.src) {
    console.warn("glassgpt: the script of the widget needs data-key and data-model");
    return;
  }
  const URL_OF_CHAT = new URL("v1/chat/completions", here.src).href;
  const wanted = given.language || document.documentElement.lang || navigator.language || "";
  const LANGUAGE = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";
  const words = WORDS[LANGUAGE];
  const TITLE = given.title || words.assistant;
  const KEPT = 60; // messages that the browser keeps for the shop's other pages
  const KEPT_LETTERS = 200000;
  const SENT = 24; // of those that the assistant is told again
  const SENT_BYTES = 48000; // the server takes 64 KB

  // ---- Elements

  function make(tag, attributes = {}, ...inside) {
    const found = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
    found.append(...inside);
    return found;
  }

  function icon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", ICONS[name]);
    svg.append(path);
    return svg;
  }

  function button(name, label, kind, act) {
    const found = make("button", { type: "button", class: kind, "aria-label": label, title: label }, icon(name));
    found.addEventListener("click", act);
    return found;
  }

  // A colour of the shop's, and white or black on it, whichever can be read better.
  function coloured(css) {
    const found = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(given.color || "");
    if (!found) return css;
    const [r, g, b] = found.slice(1).map((two) => {
      const part = parseInt(two, 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    const light = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    const on = 1.05 / (light + 0.05) >= (light + 0.05) / 0.05 ? "#ffffff" : "#000000";
    return `${css}.root, .root[data-theme="dark"] { --accent: ${found[0]}; --on-accent: ${on}; }`;
  }

  function styled(root) {
    const css = coloured(CSS);
    try {
      const sheet = new CSSStyleSheet(); // what a strict style-src lets pass
      sheet.replaceSync(css);
      root.adoptedStyleSheets = [sheet];
    } catch {
      const style = make("style"); // browsers before 2023
      style.nonce = here.nonce;
      style.textContent = css;
      root.append(style);
    }
  }

  // ---- What the model writes: paragraphs, lists, **bold** and links, as nodes

  const INLINE = /\*\*([^*\n]{1,1000})\*\*|\[([^[\]\n]{1,500})\]\((https?:\/\/[^\s()<>]{1,2000})\)|https?:\/\/[!-;=?-~]{1,2000}/g;
  const ITEM = /^\s{0,8}(?:[-*•]\s+|(\d{1,3})(?:[.)]\s+|、\s*))(.*)$/;

  function link(text, address) {
    let url;
    try {
      url = new URL(address);
    } catch {
      return text;
    }
    if (url.protocol !== "https:" && url.protocol !== "http:") return text;
    const found = make("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", title: url.href });
    found.append(text, make("span", { class: "unseen" }, ` ${words.tab}`));
    return found;
  }

  function inline(text) {
    const found = [];
    let at = 0;
    for (const match of text.matchAll(INLINE)) {
      found.push(text.slice(at, match.index));
      at = match.index + match[0].length;
      if (match[1] !== undefined) found.push(make("strong", {}, ...inline(match[1])));
      else if (match[2] !== undefined) found.push(link(match[2], match[3]));
      else {
        const address = match[0].replace(/[.,;:!?'"`*_)\]}]+$/, ""); // the sentence's, not the link's
        found.push(link(address, address));
        at = match.index + address.length;
      }
    }
    found.push(text.slice(at));
    return found;
  }

  function rendered(text) {
    const found = document.createDocumentFragment();
    let block = null;
    for (const line of text.split(/\r\n?|\n/)) {
      const item = ITEM.exec(line);
      if (item) {
        const kind = item[1] === undefined ? "UL" : "OL";
        if (!block || block.tagName !== kind) {
          block = kind === "UL" ? make("ul") : make("ol", { start: Number(item[1]) });
          found.append(block);
        }
        block.append(make("li", {}, ...inline(item[2])));
      } else if (/^\s+\S/.test(line) && block && block.lastElementChild && block.lastElementChild.tagName === "LI") {
        block.lastElementChild.append(make("br"), ...inline(line.trim())); // an item goes on
      } else if (!line.trim()) {
        if (block && block.tagName === "P") block = null; // a list may go on after an empty line
      } else {
        const heading = /^#{1,6}\s+(.*)$/.exec(line);
        if (heading || !block || block.tagName !== "P") {
          block = make("p");
          found.append(block);
        } else block.append(make("br"));
        if (heading) {
          block.append(make("strong", {}, ...inline(heading[1])));
          block = null;
        } else block.append(...inline(line));
      }
    }
    return found;
  }

  // ---- What is kept while the customer goes through the shop's pages

  const PLACE = `glassgpt:${URL_OF_CHAT}:${given.model}`;
  const CUTS = ["stopped", "length", "left"];

  function load() {
    try {
      const found = JSON.parse(sessionStorage.getItem(PLACE));
      const messages = found.messages.filter(
        (one) => (one.role === "user" || one.role === "assistant") && typeof one.text === "string",
      );
      return {
        open: found.open === true,
        dropped: found.dropped === true,
        messages: messages.slice(-KEPT).map(({ role, text, cut }) => ({ role, text, cut: CUTS.includes(cut) ? cut : "" })),
      };
    } catch {
      return { open: false, dropped: false, messages: [] };
    }
  }

  function save() {
    let letters = 0;
    let from = state.messages.length;
    while (from > 0 && state.messages.length - from < KEPT) {
      letters += state.messages[from - 1].text.length;
      if (letters > KEPT_LETTERS) break;
      from -= 1;
    }
    const { open, messages } = state;
    const dropped = state.dropped || from > 0;
    try {
      sessionStorage.setItem(PLACE, JSON.stringify({ open, dropped, messages: messages.slice(from) }));
    } catch {
      // No room, or the browser keeps nothing: the conversation lasts as long as this page.
    }
  }

  const state = load();
  let asking = null; // the AbortController of the request that runs
  let forgets = false; // whether it was told that the assistant no longer sees everything

  // ---- Asking

  class Trouble extends Error {
    constructor(word, wait = 0) {
      super(word);
      this.word = word;
      this.wait = wait;
    }
  }

  // The last messages, no more than `most` and than the server takes. The last one is the customer's, and always there.
  function lastTurns(most) {
    const found = [];
    let bytes = 0;
    for (const { role, text } of state.messages.slice(-most).reverse()) {
      const turn = { role, content: text };
      bytes += new TextEncoder().encode(JSON.stringify(turn)).length + 1;
      if (found.length && bytes > SENT_BYTES) break;
      if (text) found.unshift(turn);
    }
    while (found.length > 1 && found[0].role !== "user") found.shift();
    return found;
  }

  async function answerTo(messages, signal) {
    let response;
    try {
      response = await fetch(URL_OF_CHAT, {
        method: "POST",
        headers: { Authorization: `Bearer ${given.key}`, "Content-Type": "application/json" },
        body: JSON.stringify({ model: given.model, messages, stream: true }),
        credentials: "omit",
        cache: "no-store",
        signal,
      });
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Trouble(navigator.onLine === false ? "offline" : "unreachable");
    }
    if (response.ok && response.body) return response;
    if (response.status === 429) {
      const wait = Math.ceil(Number(response.headers.get("Retry-After")));
      throw new Trouble("often", Math.min(600, wait > 0 ? wait : 10));
    }
    if ([401, 403, 404].includes(response.status)) throw new Trouble("refused");
    const told = await response.json().catch(() => null);
    const code = told && told.error ? told.error.code : "";
    throw new Trouble(response.status === 413 || code === "context_length_exceeded" ? "long" : "failed");
  }

  // Calls `more` with each piece of text; gives why the reply ended.
  async function read(response, signal, more) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    let reason = "";
    for (;;) {
      let chunk;
      try {
        chunk = await reader.read();
      } catch (error) {
        if (signal.aborted) throw error;
        throw new Trouble(navigator.onLine === false ? "offline" : "left");
      }
      rest += decoder.decode(chunk.value, { stream: !chunk.done });
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const data = line.startsWith("data:") ? line.slice(5).trim() : "";
        if (data === "[DONE]") return reason;
        if (!data) continue;
        let value;
        try {
          value = JSON.parse(data);
        } catch {
          throw new Trouble("failed");
        }
        if (value.error) throw new Trouble("failed");
        const choice = (value.choices || [])[0];
        if (choice && choice.delta && typeof choice.delta.content === "string") more(choice.delta.content);
        if (choice && choice.finish_reason) reason = choice.finish_reason;
      }
      if (chunk.done) throw new Trouble("left");
    }
  }

  // Where the conversation is too long for the model, with half as much of it, until only the question is left.
  async function asked(signal) {
    for (let most = SENT; ; ) {
      const turns = lastTurns(most);
      try {
        return { response: await answerTo(turns, signal), all: turns.length >= state.messages.filter((m) => m.text).length };
      } catch (error) {
        if (error.word !== "long" || turns.length === 1) throw error;
        most = Math.floor(turns.length / 2);
      }
    }
  }

  async function answer() {
    const own = new AbortController();
    const reply = { role: "assistant", text: "", cut: "" };
    asking = own;
    view.clearTrouble();
    const shown = view.addTurn(reply);
    let trouble = null;
    let note = "";
    view.writes(true);
    try {
      const found = await asked(own.signal);
      if (!found.all && !forgets) note = words.forgotten;
      forgets = !found.all;
      state.messages.push(reply);
      const reason = await read(found.response, own.signal, (text) => {
        reply.text += text;
        shown.later();
      });
      if (reason === "length") reply.cut = "length";
      if (!reply.text.trim()) trouble = new Trouble("silent");
    } catch (error) {
      if (own.signal.aborted) trouble = new Trouble(own.signal.reason);
      else trouble = error instanceof Trouble ? error : new Trouble("failed");
    }
    if (own.signal.reason === "new") return; // another conversation has begun
    asking = null;
    if (reply.text.trim()) {
      const { word } = trouble || {};
      if (word) reply.cut = word === "stopped" ? "stopped" : "left";
      if (word === "left") trouble.word = "again"; // the note below the reply says it
      if (word === "stopped") trouble = null; // as it was wanted
      shown.draw(note);
    } else {
      state.messages = state.messages.filter((one) => one !== reply);
      shown.element.remove();
    }
    view.writes(false);
    if (trouble && trouble.word === "long") view.takeBack(state.messages.pop());
    save();
    if (trouble) view.tell(trouble);
    else view.spoken(shown.plain());
  }

  function say(text) {
    if (asking || !text.trim()) return false;
    state.messages.push({ role: "user", text, cut: "" });
    view.addTurn(state.messages.at(-1));
    save();
    answer();
    return true;
  }

  // The last question once more; what was written of its answer goes.
  function again() {
    if (asking) return;
    const last = state.messages.at(-1);
    if (last && last.role === "assistant") {
      state.messages.pop();
      view.removeLast();
    }
    if (state.messages.length) answer();
  }

  // ---- What is seen

  class View {
    constructor() {
      this.host = make("glassgpt-widget");
      const shadow = this.host.attachShadow({ mode: "open" });
      styled(shadow);
      this.root = make("div", { class: "root", lang: LANGUAGE === "zh" ? "zh-CN" : "en" });
      this.launcher = button("chat", words.open, "launcher", () => this.open());
      this.launcher.setAttribute("aria-haspopup", "dialog");
      this.log = make("div", { class: "log", role: "log", "aria-live": "off", "aria-label": words.conversation, tabindex: "0" });
      this.live = make("div", { class: "unseen", role: "status", "aria-live": "polite" });
      this.panel = this.makePanel();
      this.root.append(this.launcher, this.panel, this.live);
      shadow.append(this.root);
      // The shop's own keys ("/" for its search) are not meant when a customer writes here.
      for (const kind of ["keydown", "keyup", "keypress"]) this.root.addEventListener(kind, (event) => event.stopPropagation());
      const dark = matchMedia("(prefers-color-scheme: dark)");
      const theme = () => {
        this.root.dataset.theme = ["light", "dark"].includes(given.theme) ? given.theme : dark.matches ? "dark" : "light";
      };
      theme();
      dark.addEventListener("change", theme);
      this.phone = matchMedia("(max-width: 480px)");
      if (window.visualViewport) {
        for (const kind of ["resize", "scroll"]) visualViewport.addEventListener(kind, () => this.fit());
        this.phone.addEventListener("change", () => this.fit());
      }
    }

    makePanel() {
      const title = make("h2", { id: "title" }, TITLE);
      this.fresh = button("fresh", words.new, "icon", () => this.newConversation());
      this.shut = button("close", words.close, "icon", () => this.close());
      this.field = make("textarea", { rows: "1", "aria-label": words.field, placeholder: words.hint, enterkeyhint: "send" });
      this.sender = button("send", words.send, "send", () => this.pressed());
      this.field.addEventListener("input", () => this.typed());
      this.field.addEventListener("keydown", (event) => {
        // Enter that chooses a word of an input method is no Enter: browsers say so by isComposing, or by 229.
        if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
        event.preventDefault();
        if (!asking) this.pressed();
      });
      const panel = make("div", { class: "panel", role: "dialog", "aria-labelledby": "title", tabindex: "-1", hidden: "" });
      const mark = make("span", { class: "mark" }, icon("chat"));
      panel.append(
        make("header", {}, mark, title, this.fresh, this.shut),
        this.log,
        make("footer", {}, make("div", { class: "box" }, this.field, this.sender), make("p", { class: "machine" }, words.machine)),
      );
      panel.addEventListener("keydown", (event) => this.pressedKey(event));
      return panel;
    }

    // All that was said before, as this page finds it.
    begin() {
      const hello = { role: "assistant", text: given.greeting || words.hello, cut: "" };
      this.log.replaceChildren();
      this.addTurn(hello);
      if (state.dropped) this.log.append(make("p", { class: "note gone" }, words.forgotten));
      for (const one of state.messages) this.addTurn(one);
      const last = state.messages.at(-1);
      if (last && last.role === "user") this.tell(new Trouble("left"));
      else if (last && last.cut === "left") this.tell(new Trouble("again"));
      this.typed();
      if (state.open && !this.phone.matches) this.open(false);
    }

    addTurn(message) {
      const mine = message.role === "user";
      const text = make("div", { class: "text" });
      const element = make("div", { class: mine ? "turn user" : "turn" });
      element.append(make("span", { class: "unseen" }, `${mine ? words.you : words.assistant}: `), text);
      let waits = false;
      const draw = (note = "") => {
        waits = false;
        const stays = this.atEnd();
        if (mine) text.textContent = message.text;
        else if (message.text.trim()) text.replaceChildren(rendered(message.text));
        else text.replaceChildren(make("div", { class: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i")));
        for (const old of element.querySelectorAll(".note")) old.remove();
        for (const told of [message.cut && words[message.cut], note]) {
          if (told) element.append(make("p", { class: "note" }, told));
        }
        if (stays) this.toEnd();
      };
      const later = () => {
        if (!waits) requestAnimationFrame(() => waits && draw());
        waits = true;
      };
      this.log.append(element);
      draw();
      if (mine) this.toEnd();
      return { element, draw, later, plain: () => text.textContent };
    }

    // A message that cannot be sent is the customer's to change.
    takeBack(message) {
      this.removeLast();
      if (!this.field.value.trim()) this.field.value = message.text;
      this.typed();
    }

    removeLast() {
      const turns = this.log.querySelectorAll(".turn");
      if (turns.length > 1) turns[turns.length - 1].remove();
    }

    tell(trouble) {
      this.clearTrouble();
      this.trouble = make("div", { class: "trouble", role: "alert" });
      if (trouble.word !== "again") this.trouble.append(make("p", {}, words[trouble.word].replace("{seconds}", trouble.wait)));
      if (trouble.word !== "long") {
        const retry = make("button", { type: "button", class: "again" }, words.again);
        retry.addEventListener("click", () => {
          again();
          if (!this.panel.hidden) this.field.focus();
        });
        retry.disabled = trouble.wait > 0;
        setTimeout(() => (retry.disabled = false), 1000 * trouble.wait);
        this.trouble.append(retry);
      }
      this.log.append(this.trouble);
      this.toEnd();
      this.unread();
    }

    clearTrouble() {
      if (this.trouble) this.trouble.remove();
      this.trouble = null;
      this.live.textContent = "";
    }

    // A reply that is whole, for those who listen: its pieces would only be noise.
    spoken(text) {
      this.live.textContent = `${words.assistant}: ${text}`;
      this.unread();
    }

    unread() {
      if (!this.panel.hidden) return;
      this.launcher.dataset.unread = "";
      this.name(this.launcher, words.unread);
    }

    writes(now) {
      this.sender.toggleAttribute("data-stops", now);
      this.sender.replaceChildren(icon(now ? "stop" : "send"));
      this.name(this.sender, now ? words.stop : words.send);
      if (now) this.live.textContent = words.writing;
      this.typed();
    }

    name(element, label) {
      element.setAttribute("aria-label", label);
      element.title = label;
    }

    pressed() {
      if (asking) {
        asking.abort("stopped");
        this.field.focus();
      } else if (say(this.field.value)) {
        this.field.value = "";
        this.typed();
        this.field.focus();
      }
    }

    typed() {
      this.sender.setAttribute("aria-disabled", String(!asking && !this.field.value.trim()));
      const stays = this.atEnd();
      this.field.style.height = "";
      if (this.field.scrollHeight > this.field.clientHeight) this.field.style.height = `${this.field.scrollHeight}px`;
      if (stays) this.toEnd();
    }

    newConversation() {
      if (asking) asking.abort("new");
      asking = null;
      state.messages = [];
      state.dropped = forgets = false;
      this.clearTrouble();
      this.begin();
      this.writes(false);
      this.live.textContent = "";
      save();
      this.field.focus();
    }

    open(takesFocus = true) {
      this.panel.hidden = false;
      this.launcher.hidden = true;
      delete this.launcher.dataset.unread;
      this.name(this.launcher, words.open);
      state.open = true;
      save();
      this.fit();
      this.typed();
      this.toEnd();
      // On a phone the keyboard would cover what was said.
      if (takesFocus) (matchMedia("(pointer: coarse)").matches ? this.panel : this.field).focus();
    }

    close() {
      this.panel.hidden = true;
      this.launcher.hidden = false;
      state.open = false;
      save();
      this.launcher.focus();
    }

    pressedKey(event) {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Escape") {
        event.preventDefault();
        this.close();
      }
      if (event.key !== "Tab") return;
      const stops = [...this.panel.querySelectorAll("button, a[href], textarea, [tabindex='0']")].filter((one) => !one.disabled);
      const now = this.root.getRootNode().activeElement;
      const edge = event.shiftKey ? stops[0] : stops.at(-1);
      if (now === edge || now === this.panel) {
        event.preventDefault();
        (event.shiftKey ? stops.at(-1) : stops[0]).focus();
      }
    }

    // Above a phone's keyboard, which covers pages without making them smaller.
    fit() {
      const stays = this.atEnd();
      this.panel.setAttribute("aria-modal", String(this.phone.matches)); // elsewhere the page beside it can be used
      const over = window.visualViewport && visualViewport.scale < 1.05 && this.phone.matches && !this.panel.hidden;
      this.panel.style.height = over ? `${visualViewport.height}px` : "";
      this.panel.style.top = over ? `${visualViewport.offsetTop}px` : "";
      if (stays) this.toEnd();
    }

    atEnd() {
      return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60;
    }

    toEnd() {
      this.log.scrollTop = this.log.scrollHeight;
    }
  }

  const view = new View();
  document[MARK] = view.host;

  function put() {
    document.body.append(view.host);
    view.begin();
  }

  if (document.body) put();
  else document.addEventListener("DOMContentLoaded", put);
  addEventListener("pagehide", () => {
    if (asking) {
      asking.abort("left");
      const last = state.messages.at(-1);
      if (last && last.role === "assistant") last.cut = "left";
    }
    save();
  });
})();
