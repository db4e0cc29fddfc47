// The keyboard, and the few buttons that every page has.
import { cards, overlay, setOverlay, turnPage } from "./frames.js";
import { turn, turnSoon } from "./live.js";
import { frameKey, press, sameAsModel, toConclusion, toSignature } from "./review.js";
import { viewerIsOpen, viewerKey } from "./viewer.js";

const onCase = () => document.body.dataset.page === "case";
const choices = () => (onCase() ? cards() : [...document.querySelectorAll(".row")]);
const help = () => document.querySelector("[data-help]");

async function select(by) {
  let all = choices();
  if (!all.length) return;
  const here = all.findIndex((one) => one.getAttribute("aria-selected") === "true");
  let next = all[here < 0 ? 0 : Math.min(all.length - 1, Math.max(0, here + by))];
  if (here >= 0 && !all[here + by] && (await turnPage(by))) {
    all = choices();
    next = all.at(by > 0 ? 0 : -1);
  }
  for (const one of all) one.setAttribute("aria-selected", String(one === next));
  next.querySelector("a.open, .picture")?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function open() {
  const chosen = choices().find((one) => one.getAttribute("aria-selected") === "true");
  chosen?.querySelector("a.open, .picture")?.click();
}

function switchTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("hemolink.theme", next); } catch { /* private window */ }
}

const KEYS = {
  j: () => select(1),
  k: () => select(-1),
  o: () => setOverlay({ on: !overlay.on }),
  "[": () => setOverlay({ opacity: overlay.opacity - 10 }),
  "]": () => setOverlay({ opacity: overlay.opacity + 10 }),
  n: () => turnPage(1),
  p: () => turnPage(-1),
  u: () => { if (onCase()) location.href = "/"; },
  g: () => { if (document.querySelector("a[href='/critical']")) location.href = "/critical"; },
  c: () => press("c"),
  a: () => press("a"),
  r: () => { if (onCase()) toConclusion(); },
  s: () => { if (onCase()) toSignature(); },
  y: () => sameAsModel(),
  "?": () => help().showModal(),
  "/": () => {
    const search = document.querySelector("[data-search]");
    if (search) { search.focus(); search.select(); } else location.href = "/";
  },
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.matches("input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const sliding = event.target.matches("input[type=range]") && event.key.startsWith("Arrow");
  if (help().open || sliding || document.querySelector("[data-ended]")?.open) return;
  if (viewerIsOpen() && /^[1-5x]$/.test(event.key) && frameKey(event.key)) { event.preventDefault(); return; }
  if (viewerIsOpen() && event.target.matches("input[type=radio]") && event.key.startsWith("Arrow")) return;
  if (viewerIsOpen() && viewerKey(event.key)) { event.preventDefault(); return; }
  if (viewerIsOpen() && !["o", "[", "]"].includes(event.key)) return;
  if (["o", "[", "]"].includes(event.key) && !onCase()) return;
  if (event.key === "Enter" && !event.target.closest("a, button, label, form, summary")) { open(); return; }
  const act = KEYS[event.key];
  if (act) { event.preventDefault(); act(); }
}

// The search filters as one types; the address follows, so that it can be shared and reloaded.
function onSearch(event) {
  if (!event.target.matches("[data-search]")) return;
  const address = new URL(location.href);
  for (const name of ["page", "after", "before"]) address.searchParams.delete(name);
  if (event.target.value) address.searchParams.set("q", event.target.value);
  else address.searchParams.delete("q");
  turnSoon(address.search);
}

// A choice of site, microscope or age filters at once.
function onChoice(event) {
  if (!event.target.matches("[data-filter]")) return;
  const address = new URL(location.href);
  for (const name of ["page", "after", "before"]) address.searchParams.delete(name);
  if (event.target.value) address.searchParams.set(event.target.name, event.target.value);
  else address.searchParams.delete(event.target.name);
  turn(address.search);
}

// The search has filtered already; Enter leaves the field, so that j and k go through what was found.
function onSubmit(event) {
  if (!event.target.matches("[role=search]")) return;
  event.preventDefault();
  document.activeElement.blur();
}

export function startKeys() {
  document.addEventListener("submit", onSubmit);
  document.addEventListener("keydown", onKey);
  document.addEventListener("input", onSearch);
  document.addEventListener("change", onChoice);
  document.addEventListener("click", (event) => {
    const what = event.target.closest("[data-do]")?.dataset.do;
    if (what === "theme") switchTheme();
    if (what === "help") help().showModal();
  });
}
