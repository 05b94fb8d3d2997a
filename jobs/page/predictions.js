// The page over all predictions: cards in steps, pictures as they come into view, a 3D viewer where one is asked for.
const data = JSON.parse(document.getElementById("data").textContent);
const STEP = 50, MOST_VIEWERS = 8; // browsers keep about 16 WebGL contexts
const find = (id) => document.getElementById(id);
const percent = (share) => (share === null ? "not known" : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`);
const hands = data.photos.flatMap((photo) => photo.hands.map((hand) => ({ photo, ...hand })));
const open = []; // cards with a viewer, oldest first
let limit = STEP;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const pairs = (rows) => rows.map(([term, value]) => element("div", {}, element("dt", { textContent: term }), element("dd", { textContent: value })));
const picture = (label, kind, alt) => element("img", { src: `page/${encodeURIComponent(`${label}_${kind}.jpg`)}`, alt, loading: "lazy" });

const waiting = new Map(); // label -> function that takes the mesh's bytes
window.handfaceMesh = (label, text) => waiting.get(label)?.(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);

function loadMesh(label) {
  return new Promise((resolve, reject) => {
    waiting.set(label, resolve);
    const script = element("script", { src: `page/${encodeURIComponent(`${label}.js`)}` });
    script.onerror = () => reject(new Error(`page/${label}.js is not there`));
    script.onload = () => { waiting.delete(label); script.remove(); };
    document.head.append(script);
  });
}

async function openViewer(view, button, person) {
  if (view.querySelector("canvas")) return close(view);
  const canvas = element("canvas", { tabIndex: 0, ariaLabel: "3D view: drag or arrow keys turn, + and - zoom, Home resets" });
  try {
    const bytes = await loadMesh(person.label);
    view.append(canvas);
    new Viewer(canvas).show(bytes);
    view.closeButton = button;
    button.textContent = "Close 3D";
    open.push(view);
    if (open.length > MOST_VIEWERS) close(open[0]);
  } catch (error) {
    canvas.remove();
    button.textContent = `3D cannot be shown: ${error.message}`;
  }
}

function close(view) {
  view.querySelector("canvas").getContext("webgl2")?.getExtension("WEBGL_lose_context")?.loseContext();
  view.querySelector("canvas").remove();
  view.closeButton.textContent = "Open in 3D";
  open.splice(open.indexOf(view), 1);
}

const baseName = (name) => name.split(/[\\/]/).pop() || name;
const sameNames = new Set(data.photos.map((photo) => baseName(photo.name)).filter((name, index, all) => all.indexOf(name) !== index));
const shortName = (name) => (sameNames.has(baseName(name)) ? name : baseName(name));

function downloads(files) {
  let same = 0;
  while (files.length > 1 && same < files[0].length && files.every((file) => file[same] === files[0][same])) same += 1;
  same = files.length ? files[0].slice(0, same).search(/[^._]*$/) : 0; // what all begin with need not be read again; words stay whole
  const links = files.map((file) => element("a", { href: encodeURIComponent(file), title: file, textContent: file.slice(same) }));
  return element("div", { className: "links" }, ...links);
}

function card(person) {
  const overlay = element("div", { className: "view" }, picture(person.label, "overlay", "meshes over the photo"));
  const button = element("button", { type: "button", textContent: "Open in 3D" });
  button.onclick = () => openViewer(overlay, button, person);
  const facts = element("dl", { className: "facts" }, ...pairs([
    ["quality", person.quality === null ? "not known" : person.quality.toFixed(2)],
    ["touch", percent(person.presence)],
    ["hand", person.side],
    ["detection", percent(person.confidence)],
    ["hand in contact", percent(person.hand_contact)],
    ["head in contact", percent(person.head_contact)],
  ]));
  return element("article", { className: `card ${person.level}` },
    element("h2", { textContent: shortName(person.photo.name), title: person.photo.name }),
    element("p", { className: "words", textContent: person.words }),
    element("div", { className: "pair" },
      element("div", { className: "view" }, picture(person.label, "photo", "the photo's crop")),
      overlay,
      element("div", { className: "more" }, element("div", { className: "map" }, picture(person.label, "contact", "contact and deformation")), facts, button, downloads(person.photo.files))));
}

function chosen() {
  const text = find("find").value.toLowerCase(), side = find("side").value, level = find("level").value;
  const found = hands.filter((one) => one.photo.name.toLowerCase().includes(text) && (!side || one.side === side) && (!level || one.level === level));
  const order = { quality: (a, b) => (a.quality ?? -1) - (b.quality ?? -1), presence: (a, b) => (b.presence ?? -1) - (a.presence ?? -1) }[find("sort").value];
  return order ? found.sort(order) : found;
}

function show() {
  const found = chosen();
  while (open.length) close(open[0]);
  find("sheet").replaceChildren(...found.slice(0, limit).map(card));
  find("more").hidden = found.length <= limit;
  find("shown").textContent = `${Math.min(limit, found.length)} of ${found.length} hands`;
}

const nobody = data.photos.filter((photo) => !photo.hands.length).map((photo) => [photo.name, `nobody: ${photo.reason}`]);
const without = [...nobody, ...Object.entries(data.failed).map(([name, why]) => [name, `failed: ${why}`])];
find("untrained").hidden = data.trained;
find("totals").append(...pairs([["photos", data.photos.length], ["people", data.photos.reduce((sum, photo) => sum + photo.people, 0)], ["hands", hands.length], ["of low quality", hands.filter((one) => one.level === "low").length], ["without a result", without.length]]));
find("without").hidden = !without.length;
find("without").querySelector("tbody").append(...without.map((row) => element("tr", {}, ...row.map((text) => element("td", { textContent: text })))));
for (const name of ["find", "side", "level", "sort"]) find(name).addEventListener("input", () => { limit = STEP; show(); });
find("tools").addEventListener("submit", (event) => event.preventDefault());
find("more").onclick = () => { limit += STEP; show(); };
show();
