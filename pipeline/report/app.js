"use strict";
// Everything shown comes from the JSON block and goes into the page as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const HAND_COLOURS = { left: "#ffb000", right: "#4aa8ff" };
const FACE_COLOUR = "#5dffa0";
const BONES = [[0, 1, 2, 3, 4], [0, 5, 6, 7, 8], [5, 9, 10, 11, 12], [9, 13, 14, 15, 16], [13, 17, 18, 19, 20], [0, 17]];
const FACE_LINES = [[0, 17], [17, 22], [22, 27], [27, 31], [31, 36], [36, 42, true], [42, 48, true], [48, 60, true], [60, 68, true]];
const PAGE = 120;

function make(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.dataset, dataset || {});
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const format = (value) => (typeof value !== "number" || Number.isInteger(value) ? String(value) : value >= 100 ? value.toFixed(0) : value.toPrecision(3));

// --- drawing: points are thousandths of the crop's side ---
function stroke(context, points, closed) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (closed) context.closePath();
  context.stroke();
}
function drawLabels(canvas, sample) {
  const size = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const unit = size / 1000;
  const scaled = (points) => points.map(([x, y]) => [x * unit, y * unit]);
  const near = $("draw-depth").checked && sample.nearness ? sample.nearness.values : null; // 68 of the face, 21 of hand 0
  const colour = (index, other) => (near ? (near[index] < 0 ? "#8888" : `hsl(${260 - 2.6 * near[index]} 95% 60%)`) : other);
  context.lineJoin = context.lineCap = "round";
  if ($("draw-face").checked && sample.face) {
    const points = scaled(sample.face);
    context.strokeStyle = context.fillStyle = FACE_COLOUR;
    context.lineWidth = Math.max(1, size / 320);
    context.globalAlpha = 0.55;
    for (const [from, to, closed] of FACE_LINES) stroke(context, points.slice(from, to), closed);
    context.globalAlpha = 1;
    const half = near ? size / 130 : size / 300;
    points.forEach(([x, y], i) => {
      context.fillStyle = colour(i, FACE_COLOUR);
      context.fillRect(x - half, y - half, 2 * half, 2 * half);
    });
  }
  if ($("draw-hands").checked) {
    sample.hands.forEach((hand, number) => {
      const points = scaled(hand.points);
      context.strokeStyle = HAND_COLOURS[hand.side];
      context.lineWidth = Math.max(1.5, size / 150);
      for (const chain of BONES) stroke(context, chain.map((i) => points[i]), false);
      points.forEach(([x, y], i) => {
        context.fillStyle = number ? HAND_COLOURS[hand.side] : colour(68 + i, HAND_COLOURS[hand.side]);
        context.beginPath();
        context.arc(x, y, Math.max(1.5, size / 90), 0, 7);
        context.fill();
      });
    });
  }
}
function drawFrame(canvas, sample, image) { // the crop's outline on the original
  const { original_width: width, original_height: height, corners } = sample.crop;
  const scale = 420 / Math.max(width, height);
  canvas.width = Math.max(1, width * scale);
  canvas.height = Math.max(1, height * scale);
  const context = canvas.getContext("2d");
  context.fillStyle = "#8885";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (image) context.drawImage(image, 0, 0, canvas.width, canvas.height);
  context.strokeStyle = "#ff4fa0";
  context.lineWidth = 3;
  stroke(context, corners.map(([x, y]) => [x * scale, y * scale]), true);
}

// --- funnel, reasons, histograms ---
function showSummary() {
  const { inputs, kept, parts, shown } = data.totals;
  const items = { inputs, kept, parts, shown };
  if (inputs) items["of inputs kept"] = `${((100 * kept) / inputs).toFixed(1)} %`;
  for (const [name, value] of Object.entries(items)) {
    if (value !== null) $("totals").append(make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value.toLocaleString("en") })));
  }
  for (const row of data.funnel) {
    const fill = make("div");
    fill.style.width = `${(100 * row.left) / Math.max(1, inputs)}%`;
    const cells = [row.stage, row.entered, row.rejected, row.left].map((value, i) => make("td", { textContent: value.toLocaleString("en"), className: i ? "number" : "" }));
    $("funnel").tBodies[0].append(make("tr", {}, ...cells, make("td", { className: "bar" }, make("div", {}, fill))));
  }
  if (!data.funnel.length) $("funnel").closest("section").hidden = true;
  if (!data.reasons.length) $("reasons").closest("section").hidden = true;
  for (const name of data.scoreNames) showHistogram(name);
}
function showHistogram(name) {
  const values = data.samples.map((sample) => sample.scores[name]).filter((value) => value !== null && value !== undefined);
  if (!values.length) return;
  const high = Math.max(...values, 1), bins = new Array(20).fill(0);
  for (const value of values) bins[Math.min(19, Math.floor((20 * value) / high))] += 1;
  const most = Math.max(...bins);
  const plot = make("div", { className: "plot" }, ...bins.map((count) => {
    const bar = make("i", { title: String(count) });
    bar.style.height = `${(100 * count) / most}%`;
    return bar;
  }));
  const median = values.sort((a, b) => a - b)[values.length >> 1];
  $("histograms").append(make("div", { className: "histogram" }, make("b", { textContent: name.replaceAll("_", " ") }), plot,
    make("div", { className: "ends" }, make("span", { textContent: "0" }), make("span", { textContent: `median ${format(median)}` }), make("span", { textContent: format(high) }))));
}
let reasonOrder = { by: "count", down: true };
function showReasons() {
  const { by, down } = reasonOrder;
  const rows = [...data.reasons].sort((a, b) => (a[by] < b[by] ? -1 : a[by] > b[by] ? 1 : 0) * (down ? -1 : 1));
  $("reasons").tBodies[0].replaceChildren(...rows.map((row) => make("tr", { dataset: { reason: row.reason } },
    make("td", { textContent: row.reason }), make("td", { textContent: row.stage }),
    make("td", { textContent: row.count.toLocaleString("en"), className: "number" }),
    make("td", {}, make("div", { className: "examples" }, ...row.examples.map(showExample))))));
  for (const button of document.querySelectorAll("#reasons th button")) {
    if (button.dataset.sort === by) button.dataset.order = down ? "↓" : "↑";
    else delete button.dataset.order;
  }
}
function showExample({ name, detail, image }) {
  return make("div", { className: image ? "example" : "example bare", title: name },
    image ? make("img", { src: image, alt: "", loading: "lazy" }) : null,
    make("div", {}, make("b", { textContent: name.length > 60 ? `…${name.slice(-59)}` : name }), make("span", { textContent: detail })));
}

// --- contact sheet ---
let excluded = new Set();
const storageName = `handface-exclude-${data.id}`;
try { excluded = new Set(JSON.parse(localStorage.getItem(storageName) || "[]")); } catch { /* private window: not remembered */ }
let down = false, selection = [], rendered = 0;
const drawWhenSeen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    drawWhenSeen.unobserve(entry.target);
    drawLabels(entry.target, entry.target.sample);
  }
}, { rootMargin: "200px" });

const sortValue = (sample, by) => (by === "key" ? sample.key : by === "uri" ? sample.source.uri : sample.scores[by]);
function select() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const side = $("side").value, by = $("sort").value, least = parseFloat($("least").value);
  selection = data.samples.filter((sample) => {
    if ($("only-excluded").checked && !excluded.has(sample.key)) return false;
    if (side === "two" ? sample.hands.length < 2 : side && !(sample.hands[0] && sample.hands[0].side === side)) return false;
    if (!Number.isNaN(least) && by in sample.scores && !(sample.scores[by] >= least)) return false;
    return words.every((word) => sample.text.includes(word));
  });
  const known = (value) => value !== null && value !== undefined;
  selection.sort((a, b) => {
    const x = sortValue(a, by), y = sortValue(b, by);
    if (!known(x) || !known(y)) return known(y) - known(x); // unknown values last, whichever way round
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  });
  rendered = 0;
  $("sheet").replaceChildren();
  renderMore();
  $("shown").textContent = `${selection.length.toLocaleString("en")} of ${data.totals.kept.toLocaleString("en")}`;
}
function renderMore() {
  const next = selection.slice(rendered, rendered + PAGE);
  $("sheet").append(...next.map(showCard));
  rendered += next.length;
  const left = selection.length - rendered;
  $("more").textContent = left ? `${left.toLocaleString("en")} more below` : selection.length ? "" : "Nothing matches.";
}
function picture(sample) {
  const depth = $("draw-depth").checked && sample.depth;
  const canvas = make("canvas", { sample });
  return [make("img", { src: depth ? sample.depth : sample.image, alt: "", decoding: "async" }), canvas];
}
function showCard(sample) {
  const by = $("sort").value, value = by in sample.scores ? by : "contact";
  const parts = picture(sample);
  const button = make("button", { className: "picture", type: "button", title: sample.source.uri, onclick: () => openDetail(sample) }, ...parts);
  drawWhenSeen.observe(parts[1]);
  const known = sample.scores[value] !== null && sample.scores[value] !== undefined;
  const caption = make("div", { className: "caption" }, make("code", { textContent: sample.key.slice(0, 8) }),
    make("span", { textContent: known ? `${value.replaceAll("_", " ")} ${format(sample.scores[value])}` : "" }));
  const card = make("div", { className: "card", dataset: { key: sample.key } },
    make("button", { className: "exclude", type: "button", textContent: "✕", title: "Exclude (or take back)", onclick: () => toggle(sample.key) }), button, caption);
  card.classList.toggle("out", excluded.has(sample.key));
  return card;
}
function toggle(key) {
  if (!excluded.delete(key)) excluded.add(key);
  const card = document.querySelector(`.card[data-key="${CSS.escape(key)}"]`);
  if (card) card.classList.toggle("out", excluded.has(key));
  showExcluded();
}
function showExcluded() {
  $("download").textContent = `exclude list (${excluded.size})`;
  $("download").disabled = $("clear").disabled = !excluded.size;
  try { localStorage.setItem(storageName, JSON.stringify([...excluded])); } catch { /* see above */ }
}
function download() {
  const url = URL.createObjectURL(new Blob([[...excluded].sort().join("\n") + "\n"], { type: "text/plain" }));
  make("a", { href: url, download: "exclude.txt" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// --- one sample ---
let current = null;
function facts(title, values) {
  const rows = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (!rows.length) return [];
  return [make("h3", { textContent: title }), make("dl", {}, ...rows.flatMap(([name, value]) => {
    const link = typeof value === "string" && /^https?:\/\//i.test(value);
    const shown = typeof value === "object" ? Object.entries(value).map(([k, v]) => `${k}: ${format(v)}`).join(", ") : format(value);
    return [make("dt", { textContent: name }), make("dd", {}, link ? make("a", { href: value, textContent: value, target: "_blank", rel: "noreferrer noopener" }) : shown)];
  }))];
}
function openDetail(sample) {
  current = sample;
  const parts = picture(sample), frame = make("canvas");
  const out = make("button", { type: "button", textContent: excluded.has(sample.key) ? "take back" : "exclude (x)", onclick: () => { toggle(sample.key); openDetail(sample); } });
  const crop = { ...sample.crop };
  delete crop.corners;
  const side = make("div", { className: "side" },
    make("figure", {}, frame, make("figcaption", { textContent: "the crop in the original" })),
    sample.depth ? make("figure", {}, make("img", { src: sample.depth, alt: "depth" }), make("figcaption", { textContent: "depth, bright is near or high" })) : null);
  const annotators = data.annotators[sample.annotators].flatMap((a) => facts(`${a.task}: ${a.name}`, { version: a.version, licence: a.licence, weights: a.weights_sha256, thresholds: Object.keys(a.thresholds).length ? a.thresholds : null }));
  const { columns, evidence, ...source } = sample.source;
  $("detail-body").replaceChildren(
    make("div", {}, make("div", { className: "picture" }, ...parts), side),
    make("div", { className: "facts" },
      make("div", { className: "row" }, make("h2", { textContent: sample.key }), make("button", { type: "button", textContent: "←", onclick: () => step(-1) }),
        make("button", { type: "button", textContent: "→", onclick: () => step(1) }), out, make("button", { type: "button", textContent: "close", onclick: () => $("detail").close() })),
      ...facts("source", { part: sample.part, ...source, ...columns }), ...facts("evidence", evidence), ...facts("scores", sample.scores), ...facts("crop", crop), ...annotators));
  if (!$("detail").open) $("detail").showModal();
  drawLabels(parts[1], sample);
  if (sample.original) {
    const image = make("img", { src: sample.original });
    image.decode().then(() => drawFrame(frame, sample, image));
  } else drawFrame(frame, sample, null);
}
function step(by) {
  const index = selection.indexOf(current) + by;
  if (selection[index]) openDetail(selection[index]);
}

// --- wiring ---
function setTheme(theme) { document.documentElement.dataset.theme = theme; }
const preference = matchMedia("(prefers-color-scheme: dark)");
setTheme(preference.matches ? "dark" : "light");
preference.addEventListener("change", () => setTheme(preference.matches ? "dark" : "light"));
$("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
for (const name of ["key", "uri", ...data.scoreNames]) $("sort").append(make("option", { value: name, textContent: name.replaceAll("_", " ") }));
for (const sample of data.samples) {
  const { uri, member, page, licence, author, columns } = sample.source;
  sample.text = [sample.key, uri, member, page, licence, author, ...Object.values(columns || {})].filter(Boolean).join(" ").toLowerCase();
}
for (const id of ["find", "side", "sort", "least", "only-excluded", "draw-face", "draw-hands", "draw-depth"]) {
  $(id).addEventListener($(id).tagName === "SELECT" ? "change" : "input", select);
}
$("tools").onsubmit = (event) => event.preventDefault();
$("direction").onclick = () => { down = !down; $("direction").textContent = down ? "high first" : "low first"; select(); };
$("download").onclick = download;
$("clear").onclick = () => { excluded.clear(); showExcluded(); select(); };
for (const button of document.querySelectorAll("#reasons th button")) {
  button.onclick = () => {
    const by = button.dataset.sort;
    reasonOrder = { by, down: reasonOrder.by === by ? !reasonOrder.down : by === "count" };
    showReasons();
  };
}
document.addEventListener("keydown", (event) => {
  if (!$("detail").open) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "x") { toggle(current.key); openDetail(current); }
});
$("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
new IntersectionObserver((entries) => { if (entries.some((e) => e.isIntersecting) && rendered < selection.length) renderMore(); }, { rootMargin: "600px" }).observe($("more"));
showSummary();
showReasons();
showExcluded();
select();
