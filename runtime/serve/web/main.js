/* Takes a picture, asks the service, shows its answer. */
import { mark, show } from "./picture.js";
import { CAUSES, change, details, make, outcome, texts } from "./texts.js";

const by = (id) => document.getElementById(id);
const WIDE = 2.5, KIND = "textsr-kind";
let chosen = null, running = null, again = null, links = [], hasPages = true;

function say(words) { by("status").textContent = words; }
function fail(words) { by("error").textContent = words; by("error").hidden = !words; }
function kind() { return document.querySelector("[name=kind]:checked").value; }

function link(blob) {
  const made = URL.createObjectURL(blob);
  links.push(made);
  return made;
}
function decoded(base64) {
  return new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type: "image/png" });
}

/* Width and height of a picture's file as the browser shows it; null where it cannot (TIFF). */
async function sizeOf(file) {
  const image = new Image(), address = URL.createObjectURL(file);
  image.src = address;
  try {
    await image.decode();
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(address);
  }
}

/* Line or page, as told, else by the picture's shape. */
function decide(size) {
  if (!hasPages) return "line";
  if (kind() !== "auto") return kind();
  return size && size.width > WIDE * size.height ? "line" : "page";
}

function words(status, problem) {
  if (status === 401) return "This service asks for an access token: enter it under Options, then restore again.";
  if (status === 429 || status === 503) return `The service is busy: ${problem.detail || "try again in a moment."}`;
  return problem.detail || `The service answered ${status}.`;
}

async function ask(what, showInput, signal) {
  const form = new FormData();
  form.append("file", chosen, chosen.name);
  form.append("seed", by("seed").value || "0");
  if (by("steps").value) form.append("steps", by("steps").value);
  if (what === "line") {
    if (by("text").value) form.append("text", by("text").value);
    form.append("reread", "true");
  }
  form.append("show_input", String(showInput));
  const headers = { Accept: "application/json" }, token = by("token").value.trim();
  if (token) headers.Authorization = "Bearer " + token;
  const address = what === "page" ? "v1/page" : "v1/restore";
  const answer = await fetch(address, { method: "POST", body: form, headers, signal });
  const body = await (answer.ok ? answer.json() : answer.json().catch(() => ({})));
  if (!answer.ok) {
    if (answer.status === 401) { by("options").open = true; by("token").focus(); }
    throw new Error(words(answer.status, body));
  }
  return what === "page" ? body : { ...body.results[0], scale: 4 };
}

async function restore() {
  if (!chosen) return;
  if (running) running.abort();
  const mine = running = new AbortController();
  fail("");
  by("again").disabled = false;
  try {
    const size = await sizeOf(chosen), what = decide(size);
    if (mine !== running) return;
    say(`Restoring ${chosen.name} as ${what === "page" ? "a whole page" : "one line"}…`);
    wait(true);
    const result = await ask(what, what === "line" || !size, mine.signal);
    if (mine !== running) return;
    showResult(result, what);
    say(result.applied ? "Done." : "Done: the picture was only enlarged.");
  } catch (error) {
    if (mine !== running) return;
    say(error.name === "AbortError" ? "Cancelled." : "");
    by("answer").hidden = true;
    if (error.name !== "AbortError")
      fail(error instanceof TypeError ? "The service cannot be reached: is it still running?" : error.message);
  } finally {
    if (mine === running) { wait(false); running = null; }
  }
}

/* The seconds count where no screen reader hears them. */
let clock = 0;
function wait(waiting) {
  clearInterval(clock);
  by("progress").hidden = !waiting;
  by("clock").textContent = "";
  const begin = Date.now();
  if (waiting) clock = setInterval(() => { by("clock").textContent = Math.round((Date.now() - begin) / 1000) + " s"; }, 1000);
}

function verdict(result, lines, what) {
  if (what === "line") {
    const changed = change(result), said = outcome(result), told = `${said[0].toUpperCase()}${said.slice(1)}`;
    const whole = result.applied || !result.reason ? `${told}.` : `${told}: ${result.reason}.`;
    if (!changed || !result.applied) return whole;
    return whole + (changed.gone || changed.fresh
      ? ` The reading changed: ${changed.gone} of ${changed.of} characters gone, ${changed.fresh} new. Check them against the picture as it came.`
      : " The reading is the same before and after.");
  }
  if (!lines.length) return "No text was found: the page is only enlarged.";
  const causes = new Map();
  for (const { placed, cause } of lines) if (!placed) causes.set(cause, (causes.get(cause) || 0) + 1);
  const kept = [...causes].map(([cause, count]) => `${count} ${CAUSES[cause] || cause}`).join(", ");
  const changed = lines.filter((line) => { const told = line.placed && change(line); return told && (told.gone || told.fresh); });
  return `${lines.filter((line) => line.placed).length} of ${lines.length} lines restored.` + (kept ? ` As they were: ${kept}.` : "")
    + (changed.length ? ` ${changed.length} of the restored read differently: check them against the picture as it came.` : "");
}

function showResult(result, what) {
  const lines = what === "page" ? result.lines : [result];
  links.splice(0).forEach((old) => URL.revokeObjectURL(old));
  const after = link(decoded(result.image)), before = link(result.input ? decoded(result.input) : chosen);
  by("download").href = after;
  by("download").download = (chosen.name.replace(/\.[^.]*$/, "") || what) + "-restored.png";
  by("tag-after").textContent = result.applied ? "after" : "only enlarged";
  by("size").textContent = `PNG, ${result.width} × ${result.height} pixels, ${Number(result.scale.toFixed(2))} times as large`;
  by("verdict").textContent = verdict(result, lines, what);
  by("lines").replaceChildren(...lines.map((line, number) => entry(line, what === "page" ? number : null)));
  by("reading").hidden = !lines.length;
  by("frames-field").hidden = what === "line";
  by("answer").classList.toggle("page", what === "page");
  by("answer").hidden = false;
  const share = () => what === "line" ? 0.6 : window.innerWidth < 1024 ? 0.36 : 0.68; // on a phone its lines scroll below
  show({ before, after, width: result.width, height: result.height, share, pick: (number) => choose(number, true),
    lines: { scale: result.scale, boxes: what === "page" ? lines : [] } });
}

/* A line in the list. On a page its heading is a button that shows where the line is. */
function entry(line, number) {
  const item = make("li");
  if (number !== null) {
    const pick = make("button", "pick", `Line ${number + 1}: `);
    pick.type = "button";
    pick.append(make("span", line.placed ? "state done" : "state", outcome(line)));
    pick.addEventListener("click", () => choose(number, false, true));
    item.addEventListener("focusin", () => choose(number, false));
    item.append(pick);
  }
  item.append(texts(line), details(line));
  return item;
}

/* Marks a line in the list and on the picture. Chosen on the picture, the list follows; `near` goes close to it there. */
function choose(number, fromPicture, near = false) {
  const items = [...by("lines").children];
  items.forEach((item, place) => {
    item.classList.toggle("on", place === number);
    item.querySelector(".pick").setAttribute("aria-current", String(place === number));
  });
  mark(number, near);
  if (fromPicture) items[number].querySelector(".pick").focus();
}

function take(files) {
  if (!files.length) return;
  chosen = files[0];
  by("hint").textContent = files.length > 1 ? `${chosen.name} (the first of ${files.length})` : chosen.name;
  restore();
}

function chooseKind() {
  try { localStorage.setItem(KIND, kind()); } catch { /* not remembered: the browser forbids it */ }
  by("text-field").hidden = kind() === "page";
  clearTimeout(again);
  again = setTimeout(restore, 500); // not for each that the arrow keys pass
}

/* What was chosen last time, and whether this service takes pages. */
async function begin() {
  let last = null;
  try { last = localStorage.getItem(KIND); } catch { /* as if nothing was chosen */ }
  const known = [...document.getElementsByName("kind")].find((input) => input.value === last);
  if (known) known.checked = true;
  by("text-field").hidden = kind() === "page";
  const ready = await fetch("readyz").then((answer) => answer.json()).catch(() => ({}));
  if (ready.pages !== false) return;
  hasPages = false;
  document.querySelector("[value=page]").disabled = document.querySelector("[value=auto]").disabled = true;
  document.querySelector("[value=line]").checked = true;
  by("text-field").hidden = false;
  by("kind-hint").textContent = "This service takes lines only: whole pages need its extra [ocr].";
}

by("file").addEventListener("change", (event) => { take([...event.target.files]); event.target.value = ""; });
by("form").addEventListener("submit", (event) => { event.preventDefault(); restore(); });
by("kinds").addEventListener("change", chooseKind);
by("cancel").addEventListener("click", () => { if (running) running.abort(); });
for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, (event) => {
  event.preventDefault();
  by("drop").classList.toggle("over", name === "dragover");
  if (name === "drop") take([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
begin();
