// The page: sends a photo, shows the answer. Everything from the server goes in as text or as an image, never as markup.
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
let viewer = null, limits = { max_bytes: Infinity }, answer = null, turn = 0;

function say(text, busy = false) {
  $("status").textContent = text;
  $("status").classList.toggle("busy", busy);
}
function complain(text) {
  say("");
  $("error").textContent = text;
  $("error").hidden = !text;
}
function warnUntrained(trained) {
  for (const note of document.querySelectorAll(".untrained")) note.hidden = trained;
}

async function send(file) {
  if (!file) return;
  complain("");
  const mine = ++turn; // a later photo overtakes this one
  if (file.size > limits.max_bytes) return complain(`${file.name} is larger than ${Math.round(limits.max_bytes / 1e6)} MB.`);
  say(`Looking at ${file.name} …`, true);
  const started = performance.now();
  try {
    const response = await fetch("api/predict", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    const got = await response.json().catch(() => ({ error: `The program answered ${response.status}.` }));
    if (mine !== turn) return;
    if (!response.ok) return complain(`${file.name}: ${got.error}`);
    answer = got;
    await show((performance.now() - started) / 1000, file.name);
  } catch (problem) {
    if (mine === turn) complain(problem instanceof TypeError ? "The program on this machine does not answer. Is it still running?" : String(problem.message || problem));
  }
}

async function show(seconds, name) {
  warnUntrained(answer.trained);
  $("overlay").src = $("save-overlay").href = url("overlay.png");
  $("save-json").href = url("prediction.json");
  const count = answer.persons.length, some = answer.found > count ? `, the first ${count} are shown` : "";
  if (!count) {
    $("results").hidden = true;
    return say(`${name}: nobody found, ${answer.reason || "no hand near a face"}.`);
  }
  $("results").hidden = false;
  $("chooser").hidden = count < 2;
  $("person").replaceChildren(...answer.persons.map((person, i) => new Option(`${i + 1}: ${person.side} hand`, String(i))));
  await choose(0);
  say(`${name}: ${answer.found === 1 ? "one person" : `${answer.found} people`}${some}, in ${seconds.toFixed(1)} s.`);
}

const url = (file) => `api/results/${answer.name}/${file}`;
async function choose(index) {
  const person = answer.persons[index], number = (value, unit = "", digits = 2) => (value === null ? "unknown" : value.toFixed(digits) + unit);
  $("contact").src = url(`contact_${index}.png`);
  $("save-glb").href = url(`mesh_${index}.glb`);
  const facts = {
    hand: person.side, "touch probability": number(person.presence), "detector's confidence": number(person.confidence),
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
  const mesh = await fetch(url(`mesh_${index}.bin`));
  if (!mesh.ok) throw new Error((await mesh.json()).error);
  viewer.show(await mesh.arrayBuffer());
}

function listen() {
  $("file").addEventListener("change", () => { send($("file").files[0]); $("file").value = ""; });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", () => document.body.classList.remove("over"));
  addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("over"); send(event.dataTransfer.files[0]); });
  addEventListener("paste", (event) => send(event.clipboardData.files[0]));
  $("person").addEventListener("change", () => choose(Number($("person").value)).catch((problem) => complain(problem.message)));
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
  const info = await (await fetch("api/info")).json();
  limits = info;
  $("model").textContent = `network ${info.model}`;
  warnUntrained(info.trained);
}
start().catch(() => complain("The program on this machine does not answer. Is it still running?"));
