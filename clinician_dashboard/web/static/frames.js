// The case page: overlays on every frame, the switch and the opacity, the filter, and the way into the viewer.
import { clear, draw, drawLegend, readGrid } from "./overlay.js";
import { openViewer, redrawViewer, viewerIsOpen } from "./viewer.js";

const keep = (name, value) => { try { localStorage.setItem(`hemolink.${name}`, value); } catch { /* private window */ } };
const kept = (name, otherwise) => { try { return localStorage.getItem(`hemolink.${name}`) ?? otherwise; } catch { return otherwise; } };

export const overlay = { on: true, opacity: 60 };
let shown = "";

export const cards = () => [...document.querySelectorAll(".frame:not([hidden])")];

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

function filter() {
  for (const card of document.querySelectorAll(".frame")) card.hidden = shown !== "" && card.dataset.state !== shown;
  for (const chip of document.querySelectorAll("[data-show]")) chip.setAttribute("aria-pressed", String(chip.dataset.show === shown));
}

export function startFrames() {
  if (document.body.dataset.page !== "case") return;
  overlay.on = kept("overlay", "on") === "on";
  overlay.opacity = Number(kept("opacity", "60"));
  const legend = document.querySelector("[data-legend]");
  if (legend) drawLegend(legend);
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-overlay-on]")) setOverlay({ on: event.target.checked });
  });
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-overlay-opacity]")) setOverlay({ opacity: Number(event.target.value) });
  });
  document.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-show]");
    if (chip) { shown = chip.dataset.show; filter(); return; }
    const picture = event.target.closest("[data-do='view']");
    if (picture) openViewer(picture.closest(".frame"), { cards, overlay });
  });
  document.addEventListener("parts-updated", () => {
    if (shown && !document.querySelector(`[data-show="${CSS.escape(shown)}"]`)) shown = "";
    filter();
    drawAll();
  });
  filter();
  drawAll();
}

export { viewerIsOpen };
