// The conversation and the field below it. What is shown as HTML was made safe on the server (ui/markdown.py); all else
// is set as text. Replies grow block by block: only the blocks that changed are sent and drawn again.

const ICONS = {
  copy: "M9 9h10v11H9zM5 15V4h10v1",
  edit: "M4 20l1-5L16 4l4 4L9 19zM13 7l4 4",
  again: "M19 12a7 7 0 1 1-2-5M18 3v5h-5",
  up: "M7 11v9H4v-9zM7 11l4-8c2 0 3 1 3 3l-1 4h6l-2 10H7",
  down: "M7 13V4H4v9zM7 13l4 8c2 0 3-1 3-3l-1-4h6L17 4H7",
  correct: "M4 12l5 5L20 6",
  send: "M12 20V5M5 12l7-7 7 7",
  stop: "M7 7h10v10H7z",
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  latest: "M12 5v14M5 12l7 7 7-7",
  inside: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
};

function make(tag, attributes = {}, ...inside) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) found.setAttribute(name, value === true ? "" : value);
  }
  found.append(...inside);
  return found;
}

function button(icon, label, act, more = {}) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[icon]);
  svg.append(path);
  const found = make("button", { type: "button", class: "gg-icon", "aria-label": label, title: label, ...more }, svg);
  found.addEventListener("click", act);
  return found;
}

// A key that an input method takes, to choose a word or to leave it: some browsers say so by isComposing, others by 229.
function composes(event) {
  return event.isComposing || event.keyCode === 229;
}

function isPlainEnter(event) {
  return event.key === "Enter" && !event.shiftKey && !composes(event);
}

// The word around a place in a text; of writing without spaces between words, one character.
const ALONE = "[\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}]";
const WORDS = new RegExp(`${ALONE}|(?:(?!${ALONE})[\\p{L}\\p{N}\\p{M}])+|[^\\s]`, "gu");
export function wordAt(text, offset) {
  for (const match of text.matchAll(WORDS)) {
    if (match.index <= offset && offset < match.index + match[0].length) return { word: match[0], start: match.index };
  }
  return null;
}

class Transcript {
  constructor(root, words, emit) {
    this.words = words;
    this.emit = emit;
    this.conversation = "";
    this.writing = "";
    this.articles = new Map();
    this.waiting = false;
    this.log = make("div", { class: "gg-log" });
    this.scroll = make("div", { class: "gg-scroll", role: "region", tabindex: "0", "aria-label": words.conversation });
    this.scroll.append(this.log);
    this.live = make("div", { class: "gg-hidden", role: "status", "aria-live": "polite" });
    this.latest = button("latest", words.latest, () => this.toEnd(), { class: "gg-icon gg-latest", hidden: true });
    root.append(this.scroll, this.latest, this.composer(), this.live);
    this.sticks = true;
    this.scroll.addEventListener("scroll", () => {
      const left = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight;
      this.sticks = left < 60;
      this.latest.hidden = left < 300;
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !composes(event) && this.writing && !document.querySelector(".q-dialog")) this.stop();
    });
  }

  composer() {
    const words = this.words;
    this.field = make("textarea", { class: "gg-field", rows: "1", "aria-label": words.say, placeholder: words.say,
                                    maxlength: "200000", enterkeyhint: "send" });
    this.sender = button("send", words.send, () => (this.writing ? this.stop() : this.send()), { class: "gg-icon gg-send" });
    this.field.addEventListener("keydown", (event) => {
      if (!isPlainEnter(event)) return;
      event.preventDefault();
      if (!this.writing) this.send();
    });
    this.field.addEventListener("input", () => {
      this.fit(this.field);
      this.keep();
    });
    this.note = make("p", { class: "gg-note" });
    return make("div", { class: "gg-composer" }, make("div", { class: "gg-box" }, this.field, this.sender), this.note);
  }

  fit(field) {
    field.style.height = "auto";
    field.style.height = Math.min(field.scrollHeight + 2, window.innerHeight * 0.4) + "px";
  }

  // What is typed outlives a page that is loaded anew, and a server that is started anew.
  keep() {
    try {
      sessionStorage.setItem("glassgpt-draft", this.field.value);
    } catch {
      // a browser that keeps nothing
    }
  }

  restore() {
    try {
      const draft = sessionStorage.getItem("glassgpt-draft");
      if (draft && !this.field.value) this.field.value = draft;
    } catch {
      // as above
    }
    this.fit(this.field);
  }

  send() {
    const text = this.field.value;
    if (!text.trim() || this.waiting) return;
    this.waiting = true;
    this.sent = text;
    this.emit("said", { text });
  }

  stop() {
    this.emit("stopped", {});
  }

  // The server took what was said, or refused it: then it stays in the field.
  taken(well) {
    this.waiting = false;
    if (!well) return;
    const typed = this.field.value;  // some of it perhaps since then
    this.field.value = typed.startsWith(this.sent) ? typed.slice(this.sent.length).trimStart() : typed;
    this.fit(this.field);
    this.keep();
    this.sticks = true;
  }

  show({ conversation, messages, greeting, note }) {
    const same = conversation === this.conversation;
    const top = this.scroll.scrollTop;
    this.conversation = conversation;
    this.articles.clear();
    this.log.replaceChildren(...messages.map((message) => this.article(message)));
    if (!messages.length && greeting) this.log.append(this.greeting(greeting));
    this.note.textContent = note || "";
    this.busy(messages.length && messages[messages.length - 1].state === "writing" ? messages[messages.length - 1].id : "");
    if (same && !this.sticks) this.scroll.scrollTop = top;
    else this.toEnd();
  }

  greeting({ title, text, offers }) {
    const found = make("div", { class: "gg-greeting" }, make("h2", {}, title), make("p", {}, text));
    const row = make("div", { class: "gg-offers" });
    for (const offer of offers) {
      const one = make("button", { type: "button", class: "gg-offer" }, offer);
      one.addEventListener("click", () => {
        this.field.value = offer;
        this.send();
      });
      row.append(one);
    }
    found.append(row);
    return found;
  }

  // Earlier messages, which came later so that the last ones could be shown at once.
  earlier(messages) {
    const height = this.scroll.scrollHeight;
    const top = this.scroll.scrollTop;
    this.log.prepend(...messages.map((message) => this.article(message)));
    this.scroll.scrollTop = top + this.scroll.scrollHeight - height;
  }

  put(message) {
    const before = this.articles.get(message.id);
    if (!before) return;  // it is of another branch than the one that is seen
    before.replaceWith(this.article(message));
    if (message.state === "writing") this.busy(message.id);
    else if (message.id === this.writing) this.busy("");
    if (message.state !== "writing" && message.role === "assistant") this.live.textContent = message.text.slice(0, 2000);
    this.follow();
  }

  // The blocks of a reply from `first` on.
  write({ id, first, blocks }) {
    const article = this.articles.get(id);
    if (!article) return;
    const body = article.querySelector(".gg-body");
    const wait = body.querySelector(".gg-wait");
    if (wait) wait.remove();
    while (body.children.length > first) body.lastChild.remove();
    body.append(...blocks.map((html) => this.block(html)));
    this.follow();
  }

  block(html) {
    const found = make("div", { class: "gg-block" });
    found.innerHTML = html;
    for (const wide of found.querySelectorAll(".gg-wide")) {
      wide.setAttribute("role", "region");
      wide.setAttribute("aria-label", this.words.table);
    }
    for (const code of found.querySelectorAll(".gg-code pre")) {
      const copy = button("copy", this.words.copyCode, () => this.copy(code.textContent, copy), { class: "gg-icon gg-copy-code" });
      code.before(copy);
    }
    return found;
  }

  article(message) {
    const words = this.words;
    const mine = message.role === "user";
    const body = make("div", { class: "gg-body", dir: "auto" }, ...message.blocks.map((html) => this.block(html)));
    if (message.state === "writing" && !message.blocks.length) {
      body.append(make("p", { class: "gg-wait" }, message.wait || words.thinking));
    }
    const article = make("article", { class: `gg-message ${mine ? "gg-user" : "gg-assistant"}`,
                                      "aria-label": mine ? words.you : words.assistant });
    article.append(body);
    for (const banner of message.banners) article.append(make("p", { class: "gg-banner", role: "note" }, banner));
    if (message.mode) article.append(this.mode(message));
    if (message.correction) article.append(make("p", { class: "gg-correction" }, `${words.corrected} ${message.correction}`));
    if (message.state !== "writing") article.append(this.actions(message, mine, article));
    if (message.state !== "writing" && !mine) this.looks(body, message.id);
    this.articles.set(message.id, article);
    return article;
  }

  // A click on a word looks into it, but not one that selects or ends a selection: of two clicks the first waits for the
  // second.
  looks(body, id) {
    let selected = false;
    let soon = 0;
    body.addEventListener("mousedown", () => (selected = Boolean(String(getSelection()))));
    body.addEventListener("click", (event) => {
      clearTimeout(soon);
      if (selected || event.detail > 1 || event.target.closest("a, button, summary, [contenteditable]")) return;
      soon = setTimeout(() => String(getSelection()) || this.look(event, id, body), 250);
    });
  }

  look(event, id, body) {
    const at = document.caretPositionFromPoint?.(event.clientX, event.clientY);
    const range = at ? null : document.caretRangeFromPoint?.(event.clientX, event.clientY);
    const node = at?.offsetNode ?? range?.startContainer;
    if (!node || node.nodeType !== Node.TEXT_NODE || !body.contains(node)) return;
    // The nearest gap between characters may lie on either side of the one that was clicked on.
    const gap = at?.offset ?? range.startOffset;
    const before = document.createRange();
    const hit = [gap, gap - 1].find((offset) => {
      if (offset < 0 || offset >= node.length) return false;
      before.setStart(node, offset);
      before.setEnd(node, offset + 1);
      return Array.from(before.getClientRects()).some((box) => box.left <= event.clientX && event.clientX <= box.right);
    });
    const found = hit === undefined ? null : wordAt(node.data, hit);
    if (!found) return;
    const around = (from, fromAt, to, toAt) => {
      before.setStart(from, fromAt);
      before.setEnd(to, toAt);
      return before.cloneContents().textContent;
    };
    const earlier = around(body, 0, node, found.start);
    const later = around(node, found.start + found.word.length, body, body.childNodes.length);
    const letters = (text) => text.replace(/[^\p{L}\p{N}]/gu, "");
    this.emit("looked", { id, word: found.word, number: earlier.split(found.word).length - 1,
                          before: letters(earlier).slice(-60), after: letters(later).slice(0, 60) });
  }

  // What a reply is, and what it was taken from.
  mode(message) {
    if (!message.sources.length) return make("p", { class: "gg-mode" }, message.mode);
    const found = make("details", { class: "gg-mode" }, make("summary", {}, message.mode));
    for (const source of message.sources) {
      const one = make("figure", { class: "gg-source" }, make("figcaption", {}, source.place));
      if (source.question) one.append(make("p", { class: "gg-asked" }, source.question));
      one.append(make("blockquote", { dir: "auto" }, source.text));
      found.append(one);
    }
    return found;
  }

  actions(message, mine, article) {
    const words = this.words;
    const row = make("div", { class: "gg-actions", role: "group", "aria-label": words.actions });
    if (message.siblings.length > 1) {
      const at = message.siblings.indexOf(message.id);
      const go = (step) => this.emit("chosen", { id: message.siblings[at + step] });
      row.append(button("previous", words.previous, () => go(-1), { disabled: at === 0 }),
                 make("span", { class: "gg-count" }, `${at + 1}/${message.siblings.length}`),
                 button("next", words.next, () => go(1), { disabled: at === message.siblings.length - 1 }));
    }
    const copy = button("copy", words.copy, () => this.copy(message.text, copy));
    row.append(copy);
    if (mine) {
      row.append(button("edit", words.edit, () => this.write_over(article, message.text, words.editing, words.sendAgain,
                                                                  (text) => this.emit("edited", { id: message.id, text }))));
    } else {
      row.append(button("inside", words.inside, () => this.emit("looked", { id: message.id, word: "", number: 0 })));
      row.append(button("again", words.again, () => this.emit("again", { id: message.id })),
                 button("up", words.good, () => this.emit("judged", { id: message.id, thumb: message.thumb === 1 ? 0 : 1 }),
                        { "aria-pressed": String(message.thumb === 1) }),
                 button("down", words.bad, () => this.emit("judged", { id: message.id, thumb: message.thumb === -1 ? 0 : -1 }),
                        { "aria-pressed": String(message.thumb === -1) }),
                 button("correct", words.correct,
                        () => this.write_over(article, message.correction || message.text, words.correcting, words.keep,
                                              (text) => this.emit("corrected", { id: message.id, text }))));
    }
    return row;
  }

  // A field in the place of a message.
  write_over(article, text, label, does, done) {
    if (article.querySelector(".gg-over")) return;
    const field = make("textarea", { class: "gg-field", "aria-label": label });
    field.value = text;
    const over = make("div", { class: "gg-over" }, make("p", {}, label), field);
    const close = () => {
      over.remove();
      article.classList.remove("gg-edited");
      article.querySelector(".gg-actions button")?.focus();
    };
    const finish = () => {
      if (!field.value.trim()) return;
      close();
      done(field.value);
    };
    const save = make("button", { type: "button", class: "gg-button gg-main" }, does);
    const leave = make("button", { type: "button", class: "gg-button" }, this.words.cancel);
    save.addEventListener("click", finish);
    leave.addEventListener("click", close);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !composes(event)) {
        event.stopPropagation();
        close();
      } else if (isPlainEnter(event) && (event.ctrlKey || event.metaKey)) finish();
    });
    field.addEventListener("input", () => this.fit(field));
    over.append(make("div", { class: "gg-row" }, save, leave));
    article.append(over);
    article.classList.add("gg-edited");
    this.fit(field);
    field.focus();
  }

  async copy(text, where) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without the permission, as over plain HTTP from another computer: the older way.
      const field = make("textarea", { class: "gg-hidden" });
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    where.classList.add("gg-done");
    this.live.textContent = this.words.copied;
    setTimeout(() => where.classList.remove("gg-done"), 1200);
  }

  busy(id) {
    this.writing = id;
    const label = id ? this.words.stop : this.words.send;
    this.sender.setAttribute("aria-label", label);
    this.sender.title = label;
    this.sender.querySelector("path").setAttribute("d", ICONS[id ? "stop" : "send"]);
  }

  follow() {
    if (this.sticks) this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  toEnd() {
    this.sticks = true;
    this.follow();
  }
}

export default {
  template: '<div class="gg-chat"></div>',
  props: { words: Object, start: Object },
  mounted() {
    this.view = new Transcript(this.$el, this.words, (name, about) => this.$emit(name, about));
    this.view.restore();
    if (this.start) this.view.show(this.start);
    if (matchMedia("(pointer: fine)").matches) this.view.field.focus();
  },
  methods: {
    show(about) { this.view.show(about); },
    earlier(conversation, messages) { if (conversation === this.view.conversation) this.view.earlier(messages); },
    put(message) { this.view.put(message); },
    write(about) { this.view.write(about); },
    taken(well) { this.view.taken(well); },
    focus() { this.view.field.focus(); },
  },
};
