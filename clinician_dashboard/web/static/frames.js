// The case page: overlays on every frame, the switch and the opacity, filter and pages, and the way into the viewer.
import { turn } from "./live.js";
import { clear, draw, drawLegend, readGrid } from "./overlay.js";
import { followCard, openViewer, redrawViewer, viewerIsOpen } from "./viewer.js";

const keep = (name, value) => { try { localStorage.setItem(`hemolink.${name}`, value); } catch { /* private window */ } };
const kept = (name, otherwise) => { try { return localStorage.getItem(`hemolink.${name}`) ?? otherwise; } catch { return otherwise; } };

export const overlay = { on: true, opacity: 60 };

export const cards = () => [...document.querySelectorAll(".frame")];

function drawCard(card) {
  const canvas = card.querySelector("canvas[data-overlay]");
  const grid = canvas && readGrid(card.dataset.grid);
  if (!grid) return;
  canvas.style.opacity = String(overlay.opacity / 100);
  const wanted = overlay.on ? "on" : "off";
  if (canvas.dataset.drawn === wanted) return;
  if (overlay.on) draw(canvas, grid);
  else clear(canvas);
  canvas.dataset.drawn = wanted;
}

function drawAll() {
  for (const box of document.querySelectorAll("[data-overlay-on]")) box.checked = overlay.on;
  for (const range of document.querySelectorAll("[data-overlay-opacity]")) range.value = String(overlay.opacity);
  document.querySelectorAll("[data-legend]").forEach(drawLegend);
  document.querySelectorAll(".frame").forEach(drawCard);
  redrawViewer(overlay);
}

export function setOverlay(changes) {
  Object.assign(overlay, changes);
  overlay.opacity = Math.min(100, Math.max(0, overlay.opacity));
  keep("overlay", overlay.on ? "on" : "off");
  keep("opacity", overlay.opacity);
  drawAll();
}

// Goes to the next or previous page of frames or cases; returns whether there was one. The list starts at its top.
export async function turnPage(by) {
  const link = document.querySelector(`.pager a[rel="${by > 0 ? "next" : "prev"}"]`);
  if (!link) return false;
  await follow(link);
  return true;
}

async function follow(link) {
  await turn(link.search);
  const top = document.querySelector("[data-list]")?.closest(".grid, table");
  if (top && top.getBoundingClientRect().top < 0) top.scrollIntoView({ block: "start" });
}

export function startPages() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-turn]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab is the browser's affair
    event.preventDefault();
    follow(link);
  });
}

export function startFrames() {
  if (document.body.dataset.page !== "case") return;
  overlay.on = kept("overlay", "on") === "on";
  overlay.opacity = Number(kept("opacity", "60"));
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-overlay-on]")) setOverlay({ on: event.target.checked });
  });
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-overlay-opacity]")) setOverlay({ opacity: Number(event.target.value) });
  });
  document.addEventListener("click", (event) => {
    const picture = event.target.closest("[data-do='view']");
    if (picture) openViewer(picture.closest(".frame"), { cards, overlay, turnPage });
  });
  document.addEventListener("parts-updated", () => {
    drawAll();
    followCard();
  });
  drawAll();
}

export { viewerIsOpen };
