// A reply token by token, and views of the token that is looked at. All text is set as text. Only the view that is seen
// is asked for; its numbers come from the server (ui/inside_page.py).

const SVG = "http://www.w3.org/2000/svg";
const VIEWS = ["choices", "attention", "layers", "influence", "switches", "origins"];

function make(tag, attributes = {}, ...inside) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) found.setAttribute(name, value === true ? "" : value);
  }
  found.append(...inside);
  return found;
}

function act(label, does, more = {}) {
  const found = make("button", { type: "button", class: "gg-button", ...more }, label);
  found.addEventListener("click", does);
  return found;
}

// White space is shown: a token may be nothing else.
function shown(text) {
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ /, "␣") || "∅";
}

function percent(share) {
  return share >= 0.0995 ? `${Math.round(share * 100)} %` : share >= 0.0001 ? `${(share * 100).toPrecision(2)} %` : "< 0.01 %";
}

class Glass {
  constructor(root, words, emit) {
    this.words = words;
    this.emit = emit;
    this.legend = make("p", { class: "gg-faint gg-scale" },
      make("span", { class: "gg-read" }, words.read), " ", make("span", { class: "gg-tok", style: "--p:1" }, words.sure), " ",
      make("span", { class: "gg-tok", style: "--p:0" }, words.unsure));
    this.text = make("div", { class: "gg-tokens", role: "listbox", tabindex: "0", "aria-label": words.text });
    this.arcs = document.createElementNS(SVG, "svg");
    this.arcs.setAttribute("class", "gg-arcs");
    this.arcs.setAttribute("aria-hidden", "true");
    this.tabs = make("div", { class: "gg-views", role: "tablist", "aria-label": words.views });
    this.body = make("div", { class: "gg-view", role: "tabpanel", tabindex: "0" });
    this.saves = make("div", { class: "gg-row" });
    this.live = make("div", { class: "gg-hidden", role: "status", "aria-live": "polite" });
    this.number = 0;  // of what was asked for last: an answer to anything before it comes too late
    this.tab = {};
    for (const view of VIEWS) {
      this.tab[view] = act(words[view], () => this.choose(view), { role: "tab", class: "gg-button gg-viewtab", id: `gg-tab-${view}` });
      this.tabs.append(this.tab[view]);
    }
    this.tabs.addEventListener("keydown", (event) => this.along(event, VIEWS, this.view, (view) => this.choose(view, true)));
    this.text.addEventListener("click", (event) => {
      const token = event.target.closest("[data-place]");
      if (token) this.look(Number(token.dataset.place));
    });
    this.text.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 }[event.key];
      if (!step || !this.about) return;
      event.preventDefault();
      this.look(Math.max(this.about.start, Math.min(this.about.tokens.length - 1, this.place + step)));
    });
    new ResizeObserver(() => this.drawArcs()).observe(this.text);
    this.text.addEventListener("scroll", () => this.drawArcs());
    root.append(this.legend, make("div", { class: "gg-tokenbox" }, this.text, this.arcs), this.tabs, this.body, this.saves, this.live);
    this.root = root;
    this.view = "choices";
    this.clear();
  }

  clear() {
    this.about = null;
    this.root.hidden = true;
  }

  along(event, all, one, go) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    go(all[(all.indexOf(one) + step + all.length) % all.length]);
  }

  show(about) {
    this.about = about;
    this.root.hidden = false;
    this.layer = this.head = -1;  // the server chooses one that reads much
    this.off = new Set();
    this.tuned = false;
    this.text.replaceChildren(...about.tokens.map((token, place) => {
      const mine = place >= about.start;
      const found = make("span", { class: mine ? "gg-tok" : "gg-read", role: "option", id: `gg-token-${place}`, "data-place": place,
                                   style: mine ? `--p:${about.chances[place - about.start].toFixed(3)}` : null,
                                   title: mine ? percent(about.chances[place - about.start]) : null });
      // A token of white space alone needs a sign; a break breaks the line too.
      found.textContent = token.trim() === "" ? shown(token) : token.replace(/\n/g, "⏎\n");
      return found;
    }));
    this.look(about.place, true);
  }

  look(place, first = false) {
    if (place < this.about.start) return;
    this.text.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.place = place;
    const token = this.text.children[place];
    token.setAttribute("aria-selected", "true");
    this.text.setAttribute("aria-activedescendant", token.id);
    const top = token.offsetTop - this.text.clientHeight / 2;
    if (first || token.offsetTop < this.text.scrollTop || token.offsetTop > this.text.scrollTop + this.text.clientHeight - 30) this.text.scrollTop = top;
    this.choose(this.view);
  }

  choose(view, focus = false) {
    this.view = view;
    for (const name of VIEWS) {
      this.tab[name].setAttribute("aria-selected", String(name === view));
      this.tab[name].tabIndex = name === view ? 0 : -1;
    }
    if (focus) this.tab[view].focus();
    this.body.setAttribute("aria-labelledby", `gg-tab-${view}`);
    this.weights = null;
    this.paint();
    this.saves.replaceChildren();
    if (view !== "switches") return this.ask();
    this.number += 1;  // what another view had asked for is not waited for
    this.wait(false);
    this.switches({});
  }

  // Whether an answer is awaited; what is seen until then is of before.
  wait(on) {
    this.body.classList.toggle("gg-waits", on);
    if (on) this.body.setAttribute("aria-busy", "true");
    else this.body.removeAttribute("aria-busy");
  }

  ask(more = {}) {
    this.numbers = null;
    this.saves.replaceChildren();
    this.wait(true);
    this.number += 1;
    this.emit("wanted", { view: this.view, place: this.place, layer: this.layer, head: this.head, tuned: this.tuned,
                          number: this.number, ...more });
  }

  put(view, about, number) {
    if (!this.about || number !== this.number) return;
    this.wait(false);
    this.numbers = about;
    this[view](about);
    this.save(view);
    this.live.textContent = about.said;
  }

  refuse(number, why) {
    if (!this.about || number !== this.number) return;
    this.wait(false);
    this.tuned = false;
    if (this.view === "switches") this.switches({});  // they stay, so that others can be tried
    this.fill(make("p", { class: "gg-banner" }, why), ...(this.view === "switches" ? Array.from(this.body.children) : []));
    this.live.textContent = why;
  }

  // What is seen of a view. Whoever was at a control of it is at the same one afterwards.
  fill(...inside) {
    const at = this.body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.body.replaceChildren(...inside);
    if (at !== null) (this.body.querySelector(`[data-key="${at}"]`) ?? this.body).focus();
  }

  save(view) {
    const address = (kind) => "/inside/picture?" + new URLSearchParams({ message: this.about.message, view, kind, place: this.place,
      layer: this.layer, head: this.head, off: Array.from(this.off).join(), tuned: this.tuned, language: document.documentElement.lang.startsWith("zh") ? "zh" : "en" });
    const words = this.words;
    const drawn = view !== "origins";
    const link = (kind) => make("a", { class: "gg-button", href: address(kind), download: `${view}-${this.place}.${kind}` }, words[kind]);
    const json = act(words.json, () => {
      const found = make("a", { href: URL.createObjectURL(new Blob([JSON.stringify(this.numbers, null, 1)], { type: "application/json" })),
                                download: `${view}-${this.place}.json` });
      found.click();
      setTimeout(() => URL.revokeObjectURL(found.href), 10000);
    });
    this.saves.replaceChildren(...(drawn ? [link("svg"), link("png")] : []), json);
  }

  title(text) {
    return make("p", { class: "gg-what" }, text);
  }

  // What else could have come, and what settings would have made of it.
  choices(about) {
    const words = this.words;
    const rows = about.alternatives.map((one) => {
      const bar = make("span", { class: "gg-share", style: `--w:${Math.max(0.3, one.probability * 100)}%` });
      const after = make("td", { class: "gg-figure" }, one.after === undefined ? "" : percent(one.after));
      const go = act(words.goOn, () => this.emit("goon", { place: this.place, id: one.id }),
                     { disabled: one.ends || one.here, "aria-label": `${words.goOn}: ${one.text}` });
      return make("tr", { class: one.here ? "gg-now" : "" }, make("td", {}, make("code", {}, shown(one.text))),
                  make("td", { class: "gg-figure" }, percent(one.probability), bar), after, make("td", {}, go));
    });
    const head = make("tr", {}, ...[words.token, words.probability, words.after, ""].map((text) => make("th", { scope: "col" }, text)));
    const slider = (name, label, least, most, step, value) => {
      const out = make("output", {}, String(value));
      const field = make("input", { type: "range", min: least, max: most, step, value, "aria-label": label, "data-key": name });
      field.addEventListener("input", () => (out.textContent = field.value));
      field.addEventListener("change", () => {
        this[name] = Number(field.value);
        this.ask({ temperature: this.temperature, top_p: this.topP });
      });
      return make("label", { class: "gg-slide" }, label, field, out);
    };
    this.temperature = about.temperature;
    this.topP = about.top_p;
    this.fill(this.title(about.said),
      make("div", { class: "gg-row" }, slider("temperature", words.temperature, 0, 2, 0.1, about.temperature),
           slider("topP", words.topP, 0.05, 1, 0.05, about.top_p), make("span", { class: "gg-faint" }, about.kept)),
      make("table", { class: "gg-table" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  }

  select(label, name, count, value) {
    const field = make("select", { class: "gg-field", "aria-label": label, "data-key": name },
      ...Array.from({ length: count }, (_, i) => make("option", { value: i, selected: i === value }, String(i))));
    field.addEventListener("change", () => {
      this[name] = Number(field.value);
      this.ask();
    });
    return make("label", { class: "gg-slide" }, label, field);
  }

  // One head: over the text from the token that is looked at, and as a matrix.
  attention(about) {
    const words = this.words;
    const bytes = Uint8Array.from(atob(about.matrix), (c) => c.charCodeAt(0));
    const size = about.size;
    const canvas = make("canvas", { width: size, height: size, class: "gg-matrix", role: "img", "aria-label": `${words.matrix}. ${about.said}` });
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    const dark = document.body.classList.contains("body--dark");
    for (let i = 0; i < bytes.length; i++) {
      const share = Math.sqrt(bytes[i] / 255);
      const from = dark ? [21, 24, 28] : [255, 255, 255];
      const to = dark ? [255, 196, 84] : [11, 60, 140];
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = from[c] + (to[c] - from[c]) * share;
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    const hint = make("p", { class: "gg-faint" }, words.matrix);
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [Math.floor(((event.clientY - box.top) / box.height) * size), Math.floor(((event.clientX - box.left) / box.width) * size)];
    };
    canvas.addEventListener("mousemove", (event) => {
      const [row, column] = at(event);
      if (row < size && column <= row) {
        const named = (number) => shown(this.about.tokens[about.first + number]);
        hint.textContent = `${named(row)} → ${named(column)}: ${percent(bytes[row * size + column] / 255)}`;
      }
    });
    canvas.addEventListener("click", (event) => this.look(about.first + at(event)[0]));
    this.weights = about.weights;
    this.layer = about.layer;
    this.head = about.head;
    this.paint();
    const tokens = this.about.tokens;
    const list = make("ol", { class: "gg-most" }, ...about.most.map((one) => make("li", {}, make("code", {}, shown(tokens[one.place])), " ", percent(one.weight))));
    const readers = make("ul", { class: "gg-most" }, ...about.readers.map((one) => make("li", {}, act(`${one.layer}.${one.head}`, () => {
      this.layer = one.layer;
      this.head = one.head;
      this.ask();
    }, { "aria-label": `${words.layer} ${one.layer}, ${words.head} ${one.head}`, "aria-pressed": String(one.layer === about.layer && one.head === about.head),
         "data-key": `${one.layer}.${one.head}` }), " → ",
      make("code", {}, shown(tokens[one.place])), " ", percent(one.weight))));
    this.fill(make("div", { class: "gg-row" }, this.select(words.layer, "layer", this.about.layers, this.layer),
      this.select(words.head, "head", this.about.heads, this.head)), this.title(about.said), make("div", { class: "gg-beside" }, make("div", {}, canvas, hint),
      make("div", {}, make("h3", {}, words.from), list, make("h3", {}, words.readers), readers)));
  }

  // Colours the tokens by weights, and draws arcs where they are attention.
  paint() {
    const weights = this.weights;
    const most = weights ? Math.max(1e-9, ...weights.map(Math.abs)) : 1;
    Array.from(this.text.children).forEach((token, place) => {
      const weight = weights ? weights[place] || 0 : 0;
      token.style.setProperty("--w", (Math.abs(weight) / most).toFixed(3));
      token.classList.toggle("gg-weighed", Boolean(weights) && Math.abs(weight) / most > 0.02);
      token.classList.toggle("gg-against", weight < 0);
    });
    this.text.classList.toggle("gg-painted", Boolean(weights));
    this.drawArcs();
  }

  drawArcs() {
    this.arcs.replaceChildren();
    if (this.view !== "attention" || !this.weights || !this.about) return;
    const box = this.text.getBoundingClientRect();
    this.arcs.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    const middle = (place) => {
      const found = this.text.children[place].getBoundingClientRect();
      return [found.left + found.width / 2 - box.left, found.top - box.top + 3];
    };
    const order = this.weights.map((weight, place) => [weight, place]).sort((a, b) => b[0] - a[0]).slice(0, 8);
    const [toX, toY] = middle(this.place);
    for (const [weight, place] of order) {
      if (weight < 0.02 || place === this.place) continue;
      const [x, y] = middle(place);
      const lift = Math.max(2, Math.min(y, toY) - 14 - Math.min(60, Math.abs(x - toX) / 6));
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", `M${x} ${y}C${x} ${lift} ${toX} ${lift} ${toX} ${toY}`);
      path.setAttribute("stroke-width", (0.6 + 3.4 * weight).toFixed(2));
      path.setAttribute("opacity", (0.35 + 0.6 * weight).toFixed(2));
      this.arcs.append(path);
    }
  }

  // How the guess forms: rows are layers, columns places.
  layers(about) {
    const tokens = this.about.tokens;
    const head = make("tr", {}, make("th", { scope: "col" }, this.words.layer), ...about.places.map((place) =>
      make("th", { scope: "col", class: place + 1 === this.place ? "gg-here" : "" }, make("code", {}, shown(tokens[place])))));
    const rows = about.rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.layer), ...row.cells.map((cell, i) =>
      make("td", { style: `--p:${cell.probability.toFixed(3)}`, class: about.places[i] + 1 === this.place ? "gg-here" : "",
                   title: cell.others.map((one) => `${shown(one.text)} ${percent(one.probability)}`).join("\n") }, shown(cell.text)))));
    this.tuned = about.tuned;
    const box = make("input", { type: "checkbox", checked: about.tuned, "data-key": "tuned" });
    box.addEventListener("change", () => {
      this.tuned = box.checked;
      this.ask();
    });
    const lens = about.tunable ? make("label", { class: "gg-slide" }, box, this.words.tuned) : make("p", { class: "gg-faint" }, about.hint);
    this.fill(this.title(about.said), make("p", { class: "gg-faint" }, this.words.likeliest), lens,
      make("div", { class: "gg-wide", tabindex: "0", role: "region", "aria-label": this.words.layers },
           make("table", { class: "gg-lens" }, make("thead", {}, head), make("tbody", {}, ...rows))));
  }

  // Which tokens made this one likely.
  influence(about) {
    const exactly = act(this.words.exactly, () => {
      this.fill(this.title(`${this.words.computing} …`));
      this.ask({ exactly: true });
    });
    this.weights = about.scores;
    this.paint();
    const list = make("ol", { class: "gg-most" }, ...about.most.map((one) =>
      make("li", {}, make("code", {}, shown(this.about.tokens[one.place])), ` ${one.score > 0 ? "+" : "−"}${Math.abs(one.score).toFixed(2)}`)));
    this.fill(this.title(about.said), list, ...(about.exactly ? [] : [exactly]));
  }

  // Parts to be switched off.
  switches(about) {
    const words = this.words;
    const { layers, heads } = this.about;
    const grid = make("div", { class: "gg-switches", role: "group", "aria-label": words.switches, style: `--n:${heads + 2}` });
    const toggle = (name, label) => {
      const found = act("", () => {
        if (this.off.has(name)) this.off.delete(name);
        else this.off.add(name);
        found.setAttribute("aria-pressed", String(this.off.has(name)));
        this.stale();
      }, { class: "gg-switch", "aria-pressed": String(this.off.has(name)), "aria-label": label, title: label, tabindex: "-1", "data-name": name });
      return found;
    };
    grid.append(make("span", {}), ...Array.from({ length: heads }, (_, h) => make("small", {}, String(h))),
                make("small", { title: words.allAttention }, "A"), make("small", { title: words.mlp }, "M"));
    for (let layer = layers - 1; layer >= 0; layer--) {
      grid.append(make("small", {}, String(layer)));
      for (let h = 0; h < heads; h++) grid.append(toggle(`h${layer}.${h}`, `${words.layer} ${layer}, ${words.head} ${h}: ${words.off}`));
      grid.append(toggle(`a${layer}`, `${words.layer} ${layer}, ${words.allAttention}: ${words.off}`),
                  toggle(`m${layer}`, `${words.layer} ${layer}, ${words.mlp}: ${words.off}`));
    }
    const all = Array.from(grid.querySelectorAll("button"));
    if (all.length) all[0].tabIndex = 0;
    grid.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -(heads + 2), ArrowDown: heads + 2 }[event.key];
      const at = all.indexOf(document.activeElement);
      if (!step || at < 0 || !all[at + step]) return;
      event.preventDefault();
      all[at].tabIndex = -1;
      all[at + step].tabIndex = 0;
      all[at + step].focus();
    });
    const answer = act(words.answer, () => {
      result.replaceChildren(this.title(`${words.computing} …`));
      this.ask({ off: Array.from(this.off) });
    }, { class: "gg-button gg-main", "data-key": "answer" });
    const result = make("div", { class: "gg-result" });
    if (about.shifts) {
      result.append(this.title(about.said), make("table", { class: "gg-table" },
        make("thead", {}, make("tr", {}, ...[words.token, words.before, words.now].map((text) => make("th", { scope: "col" }, text)))),
        make("tbody", {}, ...about.shifts.map((one) => make("tr", {}, make("td", {}, make("code", {}, shown(one.text))),
          make("td", {}, percent(one.before)), make("td", {}, percent(one.after)))))),
        make("p", { class: "gg-before" }, make("strong", {}, `${words.before}: `), about.before),
        make("p", { class: "gg-after" }, make("strong", {}, `${words.now}: `), about.after));
    }
    const reset = act(words.allOn, () => {
      this.off.clear();
      this.stale();
      this.switches({});
    }, { "data-key": "allOn" });
    this.stale = () => {  // what is shown or awaited is of other switches
      this.number += 1;
      this.wait(false);
      this.saves.replaceChildren();
      result.replaceChildren();
    };
    this.fill(this.title(this.about.ablation), make("div", { class: "gg-beside" }, grid,
      make("div", {}, make("div", { class: "gg-row" }, answer, reset), result)));
  }

  // Where the words stand in what was learned or found.
  origins(about) {
    const parts = about.spans.map((span) => make("span", { class: `gg-span gg-${span.kind}`, title: span.label }, span.text));
    const rows = about.rows.map((row) => make("figure", { class: "gg-source" }, make("figcaption", {}, row.place), make("blockquote", { dir: "auto" }, row.text)));
    this.fill(this.title(about.said), make("p", { class: "gg-spans", dir: "auto" }, ...parts),
      make("p", { class: "gg-faint" }, ...about.legend.flatMap((one) => [make("span", { class: `gg-span gg-${one.kind}` }, one.label), " "])), ...rows);
  }
}

export default {
  template: '<div class="gg-glass"></div>',
  props: { words: Object },
  mounted() {
    this.view = new Glass(this.$el, this.words, (name, about) => this.$emit(name, about));
  },
  methods: {
    show(about) { this.view.show(about); },
    put(view, about, number) { this.view.put(view, about, number); },
    refuse(number, why) { this.view.refuse(number, why); },
    clear() { this.view.clear(); },
  },
};
