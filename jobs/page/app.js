// The page: sends photos one after another, shows the answers. Everything from the server goes in as text or as an image, never as markup.
import { Viewer } from "./viewer.js";
import { Camera } from "./camera.js";

const $ = (id) => document.getElementById(id);
const VIDEO = /\.(mp4|m4v|mov|webm|mkv|avi)$/i;
const GONE = "The program on this machine does not answer. Is it still running?";
const photos = []; // {file, answer, button}, in the order they were given
let viewer = null, limits = { max_bytes: Infinity }, shown = null, done = 0, asked = 0, working = Promise.resolve();

function say(text, busy = false) {
  $("status").textContent = text;
  $("status").classList.toggle("busy", busy);
}
function complain(text) {
  const line = document.createElement("p");
  line.textContent = text;
  $("error").append(line);
  $("error").hidden = false;
}
function warnUntrained(trained) {
  for (const note of document.querySelectorAll(".untrained")) note.hidden = trained;
}
function showProgress() {
  $("progress").max = asked;
  $("progress").value = done;
  $("progress").hidden = done === asked || asked < 2;
}

// Files join the queue; the first answer of a batch is shown at once, the others wait in the row of photos.
function send(files) {
  if (!files.length) return;
  if (done === asked) {
    done = asked = 0;
    $("error").replaceChildren();
    $("error").hidden = true;
  }
  const batch = { shown: false };
  asked += files.length;
  for (const file of files) working = working.then(() => predict(file, batch)).catch((problem) => complain(String(problem.message || problem)));
}

async function predict(file, batch) {
  showProgress();
  const of = asked > 1 ? ` (${done + 1} of ${asked})` : "";
  try {
    const refused = refuse(file);
    if (refused) return complain(refused);
    say(`Looking at ${file.name}${of} …`, true);
    const started = performance.now(), answer = await ask(file);
    if (!answer) return;
    const entry = { file, answer, seconds: (performance.now() - started) / 1000 };
    addPhoto(entry);
    if (batch.shown && answer.persons.length === 0) return;
    if (!batch.shown || shown.answer.persons.length === 0) await show(entry);
    batch.shown = true;
  } finally {
    done += 1;
    showProgress();
    if (done === asked) say(shown ? (batch.shown ? "" : "Still shown: ") + describe(shown) : "");
  }
}

function refuse(file) {
  if (file.type.startsWith("video/") || VIDEO.test(file.name)) {
    return `${file.name} is a video. In a terminal: handface predict ${file.name} --output out/predictions; or pause it, and paste or drop a picture of the frame.`;
  }
  return file.size > limits.max_bytes ? `${file.name} is larger than ${Math.round(limits.max_bytes / 1e6)} MB.` : "";
}

async function ask(file) {
  let response;
  try {
    response = await fetch("api/predict", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
  } catch {
    complain(GONE);
    return null;
  }
  const got = await response.json().catch(() => ({ error: `The program answered ${response.status}.` }));
  if (response.ok) return got;
  complain(`${file.name}: ${got.error}`);
  return null;
}

function addPhoto(entry) {
  const picture = document.createElement("img");
  entry.button = document.createElement("button");
  entry.button.type = "button";
  picture.src = url(entry, "small.jpg");
  picture.alt = entry.answer.persons.length ? entry.file.name : `${entry.file.name}: nobody found`;
  entry.button.title = entry.file.name;
  entry.button.append(picture);
  entry.button.addEventListener("click", () => show(entry).catch((problem) => complain(problem.message)));
  photos.push(entry);
  $("photos").append(entry.button);
  $("photos").hidden = photos.length < 2;
}

function describe({ answer, file, seconds }) {
  const count = answer.persons.length;
  if (!count) return `${file.name}: nobody found, ${answer.reason || "no hand near a face"}.`;
  return `${file.name}: ${answer.found}, in ${seconds.toFixed(1)} s.`;
}

async function show(entry) {
  if (!(await fetch(url(entry, "prediction.json"), { method: "HEAD" })).ok) { // the program holds the latest answers only
    const again = await ask(entry.file);
    if (!again) return;
    entry.answer = again;
  }
  shown = entry;
  for (const one of photos) one.button.setAttribute("aria-pressed", String(one === entry));
  const { answer } = entry;
  warnUntrained(answer.trained);
  say(describe(entry), done < asked);
  $("results").hidden = !answer.persons.length;
  if (!answer.persons.length) return;
  $("photo").src = url(entry, "photo.jpg");
  $("overlay").src = url(entry, "drawn.jpg");
  $("frame").style.setProperty("--ratio", answer.width / answer.height);
  $("chooser").hidden = answer.persons.length < 2;
  $("person").replaceChildren(...answer.persons.map((person, i) => new Option(`person ${person.face + 1}, ${person.side} hand`, String(i))));
  await choose(0);
}

const url = (entry, file) => `api/results/${entry.answer.name}/${file}`;
const number = (value, unit = "", digits = 2) => (value === null ? "unknown" : value.toFixed(digits) + unit);

async function choose(index) {
  const entry = shown, person = entry.answer.persons[index], stem = entry.file.name.replace(/\.[^.]*$/, "");
  $("contact").src = url(entry, `contact_${index}.png`);
  $("words").textContent = person.words;
  $("words").className = person.level;
  const files = { all: "all.zip", json: "prediction.json", npz: "prediction.npz", overlay: "overlay.png", contact: `contact_${index}.png` };
  for (const kind of ["glb", "ply", "obj"]) files[kind] = `mesh_${index}.${kind}`;
  for (const [kind, file] of Object.entries(files)) {
    $(`save-${kind}`).href = url(entry, file);
    $(`save-${kind}`).download = kind === "all" ? `${stem}.zip` : `${stem}_${file}`;
  }
  const facts = {
    quality: number(person.quality), "touch probability": number(person.presence), hand: person.side, "detector's confidence": number(person.confidence),
    "hand vertices in contact": person.hand_contacts, "head vertices in contact": person.head_contacts, "largest deformation": number(person.deformation_mm, " mm", 1),
  };
  $("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const row = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = String(value);
    row.append(term, text);
    return row;
  }));
  if (!viewer) return;
  const mesh = await fetch(url(entry, `mesh_${index}.bin`));
  if (!mesh.ok) throw new Error((await mesh.json()).error);
  if (entry === shown) viewer.show(await mesh.arrayBuffer());
}

function setCut(share) {
  $("cut").value = share;
  $("frame").style.setProperty("--cut", `${Math.min(100, Math.max(0, share))}%`);
}

function listen() {
  $("file").addEventListener("change", () => { send([...$("file").files]); $("file").value = ""; });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", () => document.body.classList.remove("over"));
  addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("over"); send([...event.dataTransfer.files]); });
  addEventListener("paste", (event) => send([...event.clipboardData.files]));
  for (const button of document.querySelectorAll(".example")) {
    button.addEventListener("click", async () => send([new File([await (await fetch(button.firstElementChild.src)).blob()], `${button.dataset.name}.jpg`)]));
  }
  $("person").addEventListener("change", () => choose(Number($("person").value)).catch((problem) => complain(problem.message)));
  $("cut").addEventListener("input", () => setCut(Number($("cut").value)));
  $("opacity").addEventListener("input", () => $("frame").style.setProperty("--opacity", $("opacity").value / 100));
  const drag = (event) => {
    const box = $("frame").getBoundingClientRect();
    if (event.buttons & 1) setCut((100 * (event.clientX - box.left)) / box.width);
  };
  $("frame").addEventListener("pointerdown", (event) => { $("frame").setPointerCapture(event.pointerId); drag(event); });
  $("frame").addEventListener("pointermove", drag);
  $("reset").addEventListener("click", () => viewer.reset());
  $("colour").addEventListener("change", () => { viewer.colour = $("colour").value; viewer.draw(); });
  for (const part of ["hand", "head"]) $(`show-${part}`).addEventListener("change", (event) => { viewer.shown[part] = event.target.checked; viewer.draw(); });
}

async function start() {
  try {
    viewer = new Viewer($("view"));
  } catch {
    for (const control of document.querySelectorAll("#solid input, #solid select, #solid button")) control.disabled = true;
    $("view").hidden = true;
    $("no-3d").hidden = false;
  }
  listen();
  new Camera($, (file) => send([file]), complain);
  const info = await (await fetch("api/info")).json();
  limits = info;
  $("model").textContent = `network ${info.model}`;
  warnUntrained(info.trained);
}
start().catch(() => complain(GONE));
