// The large viewer: zoom about the pointer, pan, a scale bar that follows the zoom, and the frame's figures beside it.
import { clear, draw, readGrid } from "./overlay.js";
import { Tiles } from "./tiles.js";

const SCALE_UM = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
const SCALE_WIDEST_PX = 150;
const MOST_ZOOM = 16;
const OVERLAY_WIDTH = 448;
const LOST = "The image of this frame cannot be shown: it is lost or damaged, or the dashboard does not answer.";

let dialog = null;
let stage = null;
let plane = null;
let tiles = null;
let card = null;
let cardsOf = () => [];
let turnPage = async () => false;
let shownOverlay = { on: true, opacity: 60 };
let view = { x: 0, y: 0, zoom: 1 };
let fitted = true;
let asked = 0;
let place = 0; // of the frame that is open, in the list; it may leave a list of what is still to be done
const pointers = new Map();

const find = (name) => dialog.querySelector(`[data-${name}]`);
const size = () => ({ width: Number(card.dataset.width), height: Number(card.dataset.height) });

const isTiled = () => "tiled" in card.dataset;
const isLost = () => find("lost").textContent !== "";

export const viewerIsOpen = () => dialog?.open ?? false;

function fitZoom() {
  const { width, height } = size();
  return Math.min(stage.clientWidth / width, stage.clientHeight / height);
}

function apply() {
  const { width, height } = size();
  const shown = { width: width * view.zoom, height: height * view.zoom };
  // A frame smaller than the stage is centred; a larger one may not leave it.
  const hold = (place, length, room) => (length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, place)));
  view.x = hold(view.x, shown.width, stage.clientWidth);
  view.y = hold(view.y, shown.height, stage.clientHeight);
  plane.style.width = `${width}px`;
  plane.style.height = `${height}px`;
  plane.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  plane.classList.toggle("sharp", view.zoom >= 4);
  if (isTiled()) tiles.show(view, { width: stage.clientWidth, height: stage.clientHeight });
  find("zoom").textContent = `${Math.round(view.zoom * 100)}\u202f%`;
  drawScale();
}

function drawScale() {
  const um = Number(card.dataset.um);
  const box = find("scale");
  box.hidden = !um || isLost();
  if (box.hidden) return;
  const pixelsPerUm = view.zoom / um;
  const length = SCALE_UM.findLast((one) => one * pixelsPerUm <= SCALE_WIDEST_PX) ?? SCALE_UM[0];
  find("scale-line").style.width = `${length * pixelsPerUm}px`;
  find("scale-text").textContent = `${length}\u202fµm`;
}

function fit() {
  fitted = true;
  view = { x: 0, y: 0, zoom: fitZoom() };
  apply();
}

function zoomAbout(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const least = Math.min(1, fitZoom());
  const zoom = Math.min(MOST_ZOOM, Math.max(least, view.zoom * factor));
  const ratio = zoom / view.zoom;
  view = { zoom, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
  fitted = false;
  apply();
}

function pan(x, y) {
  view.x += x;
  view.y += y;
  apply();
}

export function redrawViewer(overlay) {
  shownOverlay = overlay;
  if (!card || !viewerIsOpen()) return;
  const canvas = find("overlay");
  const grid = readGrid(card.dataset.grid);
  canvas.style.opacity = String(overlay.opacity / 100);
  if (overlay.on && grid && !isLost()) draw(canvas, grid);
  else clear(canvas);
}

// Where there is no image, nothing is laid over it, and it is said.
function tellLost(lost) {
  find("lost").textContent = lost ? LOST : "";
  redrawViewer(shownOverlay);
  drawScale();
}

// A small frame is one image; a large one is drawn from tiles, over the thumbnail that is there already.
function showPicture() {
  const image = find("image");
  const { frame: id } = card.dataset;
  image.hidden = isTiled();
  if (isTiled()) {
    image.removeAttribute("src");
    const preview = card.querySelector("img");
    tiles.open({ id, ...size(), preview });
    tellLost(preview.classList.contains("failed"));
  } else {
    tiles.close();
    tellLost(false); // until it fails
    image.src = `/api/v1/frames/${id}/image`;
  }
}

async function show(next) {
  card = next;
  place = cardsOf().indexOf(card);
  find("detail").replaceChildren(); // until its own words come: another frame's would be read, and resolved, in its place
  const { width, height } = size();
  const canvas = find("overlay");
  canvas.width = OVERLAY_WIDTH;
  canvas.height = Math.round((OVERLAY_WIDTH * height) / width);
  showPicture();
  redrawViewer(shownOverlay);
  fit();
  for (const other of document.querySelectorAll(".frame")) other.setAttribute("aria-selected", String(other === card));
  find("detail").scrollTop = 0;
  document.dispatchEvent(new CustomEvent("frame-shown", { detail: card.dataset.frame }));
  await tell();
}

// The words about the frame: in the corners, and beside the image.
async function tell() {
  const { total } = document.querySelector("[data-total]").dataset;
  find("title").textContent = `Frame ${card.dataset.number} of ${total}`;
  find("simulated").hidden = !card.dataset.sim;
  find("simulated").textContent = card.dataset.sim;
  const number = (asked += 1);
  const detail = find("detail");
  try {
    const answer = await fetch(`/fragments/frames/${card.dataset.frame}`);
    if (answer.status === 401) document.dispatchEvent(new Event("session-ended"));
    if (!answer.ok) throw new Error(answer.statusText);
    const html = await answer.text();
    if (number !== asked) return; // another frame was asked for meanwhile
    if (detail.querySelector("form[data-dirty], form[data-busy]")) return; // somebody chooses a class there
    const fresh = new DOMParser().parseFromString(html, "text/html");
    detail.replaceChildren(...fresh.body.childNodes);
  } catch {
    if (number === asked) detail.textContent = "The frame's figures could not be fetched. Close and open it again.";
  }
}

async function step(by) {
  const all = cardsOf();
  const here = all.findIndex((one) => one.dataset.frame === card.dataset.frame);
  // Where it has left the list meanwhile, since it is seen or resolved, the next one has taken its place.
  const next = here >= 0 ? here + by : by > 0 ? place : place - 1;
  if (all[next]) show(all[next]);
  else if (await turnPage(by)) show(cardsOf().at(by > 0 ? 0 : -1));
}

// After the page was updated: the frame that is open may have been answered meanwhile. Zoom and place stay, and so does a
// class that somebody is choosing.
export function followCard() {
  if (!viewerIsOpen()) return;
  const now = cardsOf().find((one) => one.dataset.frame === card.dataset.frame);
  if (!now) return;
  place = cardsOf().indexOf(now);
  if (now === card) return;
  card = now;
  redrawViewer(shownOverlay);
  tell();
}

const ACTIONS = {
  "zoom-in": () => zoomAbout(1.5),
  "zoom-out": () => zoomAbout(1 / 1.5),
  "zoom-fit": fit,
  previous: () => step(-1),
  next: () => step(1),
};

// Returns whether the key was meant for the viewer.
export function viewerKey(key) {
  const far = 60;
  const keys = {
    "+": ACTIONS["zoom-in"], "=": ACTIONS["zoom-in"], "-": ACTIONS["zoom-out"], 0: fit,
    j: ACTIONS.next, k: ACTIONS.previous, PageDown: ACTIONS.next, PageUp: ACTIONS.previous,
    ArrowLeft: () => (fitted ? step(-1) : pan(far, 0)), ArrowRight: () => (fitted ? step(1) : pan(-far, 0)),
    ArrowUp: () => pan(0, far), ArrowDown: () => pan(0, -far),
  };
  keys[key]?.();
  return key in keys;
}

function prepare() {
  dialog = document.querySelector("[data-viewer]");
  stage = find("stage");
  plane = find("plane");
  tiles = new Tiles(find("tiles"));
  for (const kind of ["load", "error"]) find("image").addEventListener(kind, () => isTiled() || tellLost(kind === "error"));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoomAbout(Math.exp(-event.deltaY * 0.0016), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button")) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    if (pointers.size === 2) {
      const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      const box = stage.getBoundingClientRect();
      zoomAbout(apart(event) / apart(before), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
    } else {
      pan(event.clientX - before.clientX, event.clientY - before.clientY);
    }
    pointers.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
  stage.addEventListener("dblclick", (event) => { if (!event.target.closest("button")) (fitted ? zoomAbout(3) : fit()); });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) { dialog.close(); return; }
    ACTIONS[event.target.closest("[data-do]")?.dataset.do]?.();
  });
  dialog.addEventListener("close", () => {
    tiles.close();
    const all = cardsOf();
    const here = all.find((one) => one.dataset.frame === card.dataset.frame) ?? all[place] ?? all.at(-1);
    here?.querySelector(".picture").focus();
  });
  new ResizeObserver(() => { if (viewerIsOpen()) (fitted ? fit() : apply()); }).observe(stage);
}

export function openViewer(next, { cards, overlay, turnPage: turn }) {
  if (!dialog) prepare();
  cardsOf = cards;
  turnPage = turn;
  shownOverlay = overlay;
  if (!dialog.open) dialog.showModal();
  stage.focus();
  show(next);
}
