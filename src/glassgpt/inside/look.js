// Draws what `look_page` wrote into the page. Texts become text nodes, never markup.
"use strict";
(() => {
  const seen = JSON.parse(document.getElementById("seen").textContent);
  const { words, tokens, moments, heads } = seen;
  const many = moments.length > 1;
  let at = moments.length - 1, place = tokens.length, head = 0, timer = 0;

  const word = (text, facts = {}) => (words[text] ?? text).replace(/\{(\w+)\}/g, (all, name) => facts[name] ?? all);
  const percent = (p) => (p >= 0.001 || p === 0 ? (100 * p).toFixed(1) + " %" : p.toExponential(1));
  const number = (value) => (value === null ? word("none yet") : value.toFixed(3));

  function make(tag, given = {}, ...inside) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value);
    }
    made.append(...inside);
    return made;
  }
  function draw(tag, given = {}, ...inside) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(given)) made.setAttribute(name, value);
    made.append(...inside);
    return made;
  }
  const shade = (p) => `rgba(var(--hue), ${(0.62 * p).toFixed(3)})`;

  // Rows of a bar each: [name, amount, text, is the one that came].
  function bars(rows, most) {
    const box = make("div", { class: "bars" });
    for (const [name, amount, text, own] of rows) {
      const bar = make("i", amount < 0 ? { class: "against" } : {});
      bar.style.width = (Math.abs(amount) / most) * 70 + "%";
      box.append(make("span", { class: own ? "name own" : "name" }, name), make("span", { class: "amount" }, bar, text));
    }
    return box;
  }

  // The slider.
  const slider = make("input", { type: "range", min: 0, max: moments.length - 1, step: 1, value: at, id: "moment",
    oninput: () => { stop(); go(Number(slider.value)); } });
  const label = make("label", { for: "moment" });
  const facts = make("p", { class: "facts", "aria-live": "polite" });
  const player = make("button", { type: "button", onclick: () => (timer ? stop() : play()) }, word("play"));
  function stop() { clearInterval(timer); timer = 0; player.textContent = word("play"); }
  function play() {
    player.textContent = word("stop");
    if (at === moments.length - 1) go(0);
    timer = setInterval(() => { go(at + 1); if (at === moments.length - 1) stop(); }, 700);
  }
  function go(to) {
    at = Math.max(0, Math.min(moments.length - 1, to));
    slider.value = at;
    show();
  }
  const step = (by, name, sign) => make("button", { type: "button", "aria-label": word(name),
    onclick: () => { stop(); go(at + by); } }, sign);

  // The text.
  const text = make("p", { class: "tokens", role: "group", "aria-label": word("The text: the stronger the shade, the likelier") });
  const buttons = [...tokens, "▸ " + word("next")].map((token, i) => make("button", { type: "button", "data-place": i,
    class: i === tokens.length ? "after" : "", onclick: () => choose(i),
    onkeydown: (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tokens.length }[event.key];
      if (to === undefined || to < 0 || to > tokens.length) return;
      event.preventDefault();
      choose(to);
      buttons[to].focus();
    } }, token));
  buttons.forEach((button, i) => {
    text.append(button);
    if ((seen.raw[i] ?? "").endsWith("\n")) text.append(make("br"));
  });
  function choose(i) { place = i; show(); }
  const others = make("div", { id: "others", "aria-live": "polite" });

  function showOthers(moment) {
    others.replaceChildren();
    if (place === 0) return others.append(make("p", {}, word("the first token has none before it")));
    const after = place === tokens.length;
    const found = after ? moment.next : moment.steps[place - 1];
    const title = after ? word("What comes next") : word("In place of {token}", { token: `“${tokens[place]}”` });
    const more = after ? "" : `, ${percent(found.p)}, ${word("rank {rank}", { rank: found.rank })}`;
    others.append(make("h3", {}, `${title} (${found.bits.toFixed(1)} ${word("bits")}${more})`));
    const rows = found.others.map(([name, p], n) => [name, p, percent(p), !after && n === found.rank - 1]);
    if (!after && found.rank > rows.length) rows.push([tokens[place], found.p, percent(found.p), true]);
    others.append(bars(rows, Math.max(...rows.map((row) => row[1]), 1e-9)));
  }

  // Attention: a matrix, and the row of the chosen token.
  const size = tokens.length;
  const matrix = make("canvas", { width: size, height: size, id: "matrix", role: "img",
    onclick: (event) => choose(Math.min(size - 1, Math.floor((event.offsetY / matrix.clientHeight) * size))) });
  matrix.addEventListener("mousemove", (event) => {
    const [i, j] = [event.offsetY / matrix.clientHeight, event.offsetX / matrix.clientWidth].map((x) => Math.min(size - 1, Math.floor(x * size)));
    matrix.title = i < j ? "" : `${tokens[i]} → ${tokens[j]}: ${percent(moments[at].patterns[head][start(i) + j] / 1000)}`;
  });
  const row = make("div", { id: "row" });
  const chooser = make("select", { id: "head", "aria-label": word("head"), onchange: () => { head = Number(chooser.value); show(); } });
  const named = ([layer, number]) => word("layer {layer}, head {head}", { layer, head: number });
  heads.map((pair, i) => [pair, i]).sort(([a], [b]) => a[0] - b[0] || a[1] - b[1])
    .forEach(([pair, i]) => chooser.append(make("option", { value: i }, named(pair))));
  chooser.value = 0;
  const start = (i) => (i * (i + 1)) / 2;

  function showAttention(moment) {
    const shares = moment.patterns[head], own = Math.min(place, size - 1);
    const [r, g, b] = getComputedStyle(document.documentElement).getPropertyValue("--hue").split(",").map(Number);
    const canvas = matrix.getContext("2d"), image = canvas.createImageData(size, size);
    for (let i = 0; i < size; i++) for (let j = 0; j <= i; j++) {
      const p = 4 * (i * size + j);
      image.data[p] = r; image.data[p + 1] = g; image.data[p + 2] = b;
      image.data[p + 3] = 255 * Math.sqrt(shares[start(i) + j] / 1000) * (i === own ? 1 : 0.75) + (i === own ? 0 : 8);
    }
    canvas.putImageData(image, 0, 0);
    matrix.setAttribute("aria-label", named(heads[head]));
    const looked = Array.from({ length: own + 1 }, (_, j) => [tokens[j], shares[start(own) + j] / 1000, j]);
    looked.sort((x, y) => y[1] - x[1] || x[2] - y[2]);
    row.replaceChildren(make("h3", {}, word("{token} looks at", { token: `“${tokens[own]}”` })),
      bars(looked.slice(0, 8).map(([name, p, j]) => [`${name} ·${j}`, p, percent(p), j === own]), 1));
  }

  // The losses of the run, and where we are.
  const place_of = make("div");
  function showCurves(moment) {
    if (!seen.curves) return;
    const { training, held_out } = seen.curves;
    const own = moments.filter((m) => m.loss !== null).map((m) => [m.step, m.loss]);
    const all = [...training, ...held_out, ...own];
    const right = Math.max(1, ...all.map((p) => p[0])), top = Math.max(...all.map((p) => p[1]), 1e-9) * 1.05;
    const x = (s) => 45 + (s / right) * 640, y = (loss) => 175 - (loss / top) * 160;
    const line = (points, given) => draw("polyline", { points: points.map(([s, l]) => `${x(s).toFixed(1)},${y(l).toFixed(1)}`).join(" "),
      fill: "none", ...given });
    const picture = draw("svg", { class: "curve", viewBox: "0 0 700 215", role: "img", "aria-label": word("Losses") });
    for (let n = 0; n <= 4; n++) {
      const loss = (top * n) / 4;
      picture.append(draw("line", { x1: 45, x2: 685, y1: y(loss), y2: y(loss), stroke: "#8884" }),
        draw("text", { x: 40, y: y(loss) + 4, "text-anchor": "end" }, loss.toFixed(1)));
    }
    picture.append(line(training, { stroke: "#8889", "stroke-width": 1.2 }),
      line(held_out, { stroke: "rgb(var(--hue))", "stroke-width": 2, "stroke-dasharray": "6 3" }),
      line(own, { stroke: "var(--mark)", "stroke-width": 2 }),
      ...own.map(([s, l]) => draw("circle", { cx: x(s), cy: y(l), r: s === moment.step ? 6 : 3, fill: "var(--mark)" })),
      draw("line", { x1: x(moment.step), x2: x(moment.step), y1: 15, y2: 175, stroke: "var(--mark)", "stroke-dasharray": "2 3" }),
      draw("text", { x: 365, y: 192, "text-anchor": "middle" }, word("training step") + ` (0 – ${right})`));
    const legend = [["#888", word("training loss"), ""], ["rgb(var(--hue))", word("held-out loss"), "6 3"], ["var(--mark)", word("loss of this text"), ""]];
    legend.forEach(([colour, name, dashes], n) => picture.append(
      draw("line", { x1: 60 + n * 210, x2: 85 + n * 210, y1: 208, y2: 208, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dashes }),
      draw("text", { x: 92 + n * 210, y: 212 }, name)));
    place_of.replaceChildren(picture);
  }

  const lens = make("div", { class: "wide" });
  function showLens() {
    if (!seen.lens) return;
    const { rows, start: from } = seen.lens, count = rows[0].length, own = Math.min(place, size - 1) - from;
    const first = Math.max(0, Math.min(count - 14, own - 9)), last = Math.min(count, first + 14);
    const table = make("table", { class: "lens" });
    const top = make("tr", {}, make("th", {}, word("layer")));
    for (let j = first; j < last; j++) top.append(make("th", { class: j === own ? "seen" : "" }, tokens[from + j]));
    table.append(top);
    for (let n = rows.length - 1; n >= 0; n--) {
      const line = make("tr", {}, make("th", {}, n ? String(n) : word("start")));
      for (let j = first; j < last; j++) {
        const [name, p, bits] = rows[n][j];
        const cell = make("td", { title: `${percent(p)}, ${bits.toFixed(1)} ${word("bits")}` }, name);
        cell.style.background = shade(p);
        line.append(cell);
      }
      table.append(line);
    }
    lens.replaceChildren(table);
  }

  function show() {
    const moment = moments[at];
    if (many) {
      const told = word("step {step} of {steps}", { step: moment.step, steps: seen.steps });
      label.textContent = told;
      slider.setAttribute("aria-valuetext", told);
      facts.replaceChildren(...[["loss of this text", moment.loss], ["training loss", moment.training], ["held-out loss", moment.held_out]]
        .map(([name, value]) => make("span", {}, `${word(name)}: ${number(value)}`)));
    }
    buttons.forEach((button, i) => {
      const p = i > 0 && i < size ? moment.steps[i - 1].p : 0;
      button.style.setProperty("--p", (0.62 * p).toFixed(3));
      button.setAttribute("aria-pressed", i === place);
      button.tabIndex = i === place ? 0 : -1;
      button.title = i > 0 && i < size ? percent(p) : "";
    });
    showOthers(moment);
    showAttention(moment);
    showCurves(moment);
    showLens();
  }

  const section = (title, ...inside) => make("section", {}, make("h2", {}, title), ...inside);
  const hint = (words) => make("p", { class: "hint" }, words);
  const page = document.getElementById("look");
  if (many) page.append(make("div", { class: "time" }, make("div", {}, step(-1, "the step before", "◂"), slider,
    step(1, "the next step", "▸"), player, label), facts));
  page.append(section(word("The text: the stronger the shade, the likelier"),
    hint(word("Choose a token to see what else was considered; the arrow keys move on.")), text, others));
  if (seen.curves) page.append(section(word("Losses") + `, ${word("nats per token")}`, place_of));
  page.append(section(word("Attention"), hint(word("Rows read, columns are read. Choose a row.")), make("p", {}, chooser),
    make("div", { class: "two" }, matrix, row)));
  if (seen.lens) page.append(section(word("How the guess forms"), hint(words.lens), lens));
  if (seen.attribution) {
    const scores = seen.attribution.scores.map((score, i) => [tokens[i], score, `${score.toFixed(3)} ${word("nats")}`, false]);
    page.append(section(word("What made it likely"), hint(words.attribution),
      bars(scores, Math.max(...scores.map((row) => Math.abs(row[1])), 1e-9))));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
})();
