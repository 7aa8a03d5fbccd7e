/* The picture before and after: the divider between them, zoom, and frames around lines. Positions are in the pixels of
   the picture as it came. */
const by = (id) => document.getElementById(id);
const stage = by("stage"), boxes = by("boxes"), slider = by("slider"), images = [by("before"), by("after")];
const SVG = "http://www.w3.org/2000/svg", NEAR = 24, STILL = 5, STEP = 1.5, LOWEST = 96;
let size = { width: 1, height: 1 }, scale = 1; // of the picture, of the answer
let most = () => 1; // share of the window's height that the picture may take
let view = { zoom: 1, x: 0, y: 0 }; // how often the whole, and what is in the middle
let onPick = () => {};

/* Pixels on the screen for one of the picture: all of it in view, at most, and now. */
function fitting() {
  const room = stage.parentElement.clientWidth - padding();
  return Math.min(room / size.width, most() * window.innerHeight / size.height, 2 * scale);
}
function padding() {
  const style = getComputedStyle(stage.parentElement);
  return parseFloat(style.paddingLeft) + parseFloat(style.paddingRight) + 2;
}
function largest() { return Math.max(1, 4 * scale / fitting()); }
function factor() { return fitting() * view.zoom; }

function held(middle, length, room) {
  return length <= room ? length / 2 : Math.min(Math.max(middle, room / 2), length - room / 2);
}

function draw() {
  stage.style.height = Math.max(LOWEST, Math.round(fitting() * size.height) + 2) + "px";
  view.zoom = Math.min(Math.max(view.zoom, 1), largest());
  const pixels = factor(), width = stage.clientWidth / pixels, height = stage.clientHeight / pixels;
  view.x = held(view.x, size.width, width);
  view.y = held(view.y, size.height, height);
  const left = view.x - width / 2, top = view.y - height / 2;
  for (const image of images) {
    image.style.width = size.width + "px";
    image.style.height = size.height + "px";
    image.style.transform = `translate(${-left * pixels}px, ${-top * pixels}px) scale(${pixels})`;
  }
  boxes.setAttribute("viewBox", `${left} ${top} ${width} ${height}`);
  stage.classList.toggle("zoomed", view.zoom > 1);
  by("zoom").textContent = percent(pixels / scale);
  by("zoom-out").disabled = by("zoom-fit").disabled = view.zoom <= 1;
  by("zoom-in").disabled = view.zoom >= largest();
}
function percent(share) { return Math.round(100 * share) + "%"; }

/* Zooms by `times`; what is at the point of the window (else in the middle) stays there. */
function zoom(times, clientX, clientY) {
  const frame = stage.getBoundingClientRect(), before = factor();
  const right = clientX === undefined ? 0 : clientX - frame.left - frame.width / 2;
  const down = clientY === undefined ? 0 : clientY - frame.top - frame.height / 2;
  view.zoom = Math.min(Math.max(view.zoom * times, 1), largest());
  view.x += right / before - right / factor();
  view.y += down / before - down / factor();
  draw();
}
function pan(right, down) {
  view.x += right / factor();
  view.y += down / factor();
  draw();
}

function divide() {
  const share = Number(slider.value);
  stage.style.setProperty("--share", share + "%");
  slider.setAttribute("aria-valuetext", `${share}% before, ${100 - share}% after`);
}
function divideAt(clientX) {
  const frame = stage.getBoundingClientRect();
  slider.value = Math.round(100 * (clientX - frame.left) / frame.width);
  divide();
}

/* Shows the pictures at the addresses `before` and `after`, the latter `width` x `height` and `lines.scale` times as
   large as the former, with frames around `lines.boxes`; calls `pick` with the number of one that is chosen. */
export function show({ before, after, width, height, lines, pick, share }) {
  scale = lines.scale;
  size = { width: width / scale, height: height / scale };
  most = share;
  onPick = pick;
  images[0].src = before;
  images[1].src = after;
  boxes.replaceChildren(...lines.boxes.map(({ box, placed }, number) => {
    const made = document.createElementNS(SVG, "g");
    for (const name of ["halo", "frame"]) { // two, to be seen on any ground
      const outline = document.createElementNS(SVG, "polygon");
      outline.setAttribute("points", box.map((corner) => corner.join(",")).join(" "));
      outline.setAttribute("class", name);
      made.append(outline);
    }
    made.classList.toggle("kept", !placed);
    made.dataset.number = number;
    return made;
  }));
  slider.value = 50;
  divide();
  whole();
}

export function whole() {
  view = { zoom: 1, x: size.width / 2, y: size.height / 2 };
  draw();
}

/* Marks a line's frame; `near` goes close to it, else it is only brought into view. */
export function mark(number, near) {
  [...boxes.children].forEach((box, place) => box.classList.toggle("on", place === number));
  const chosen = boxes.children[number];
  if (!chosen) return;
  const frame = chosen.getBBox();
  if (near) {
    const times = Math.min(0.9 * stage.clientWidth / frame.width, 0.5 * stage.clientHeight / frame.height);
    view.zoom = times / fitting();
  }
  if (near || view.zoom > 1) {
    view.x = frame.x + frame.width / 2;
    view.y = frame.y + frame.height / 2;
  }
  draw();
}

/* Fingers and mouse: two fingers zoom; one moves the divider, or the picture once it is zoomed and the divider not near;
   one that stays where it is chooses a line. */
const down = new Map();
let moved = false, dividing = false;

stage.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  stage.setPointerCapture(event.pointerId);
  down.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (down.size > 1) { moved = true; return; }
  moved = false;
  const bar = by("bar").getBoundingClientRect();
  dividing = view.zoom <= 1 || Math.abs(event.clientX - bar.left) < NEAR;
});

stage.addEventListener("pointermove", (event) => {
  const last = down.get(event.pointerId);
  if (!last) return;
  const now = { x: event.clientX, y: event.clientY };
  if (down.size === 2) {
    const other = [...down.entries()].find(([id]) => id !== event.pointerId)[1];
    const times = Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(last.x - other.x, last.y - other.y));
    zoom(times, (now.x + other.x) / 2, (now.y + other.y) / 2);
    pan((last.x - now.x) / 2, (last.y - now.y) / 2);
  } else {
    if (!moved && Math.hypot(now.x - last.x, now.y - last.y) < STILL) return;
    moved = true;
    if (dividing) divideAt(now.x);
    else pan(last.x - now.x, last.y - now.y);
  }
  down.set(event.pointerId, now);
});

stage.addEventListener("pointerup", (event) => {
  if (!down.delete(event.pointerId) || moved) return;
  const hit = document.elementsFromPoint(event.clientX, event.clientY).find((node) => boxes.contains(node) && node !== boxes);
  if (hit) onPick(Number(hit.parentElement.dataset.number));
  else if (view.zoom <= 1) divideAt(event.clientX);
});
stage.addEventListener("pointercancel", (event) => { down.delete(event.pointerId); });

stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 200), event.clientX, event.clientY);
}, { passive: false });

const KEYS = {
  "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: whole,
  ArrowLeft: () => pan(-60, 0), ArrowRight: () => pan(60, 0), ArrowUp: () => pan(0, -60), ArrowDown: () => pan(0, 60),
};
stage.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.startsWith("Arrow") && view.zoom <= 1) return; // the page scrolls
  event.preventDefault();
  act();
});

slider.addEventListener("input", divide);
by("zoom-in").addEventListener("click", () => zoom(STEP));
by("zoom-out").addEventListener("click", () => zoom(1 / STEP));
by("zoom-fit").addEventListener("click", whole);
by("frames").addEventListener("change", (event) => boxes.classList.toggle("off", !event.target.checked));
new ResizeObserver(draw).observe(stage.parentElement);
