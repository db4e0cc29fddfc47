// The review: forms that act without a reload, frames marked as seen, drafts kept, what the chosen conclusion asks for.
// Without this script each form still works by itself: it is sent, and the page comes again.
import { announce, refreshSoon } from "./live.js";

const token = () => document.querySelector("meta[name=csrf]")?.content ?? "";
// A draft is its writer's: who signs in after them in the same window reads on their own, and signs their own words.
const draftOf = (name) => `hemolink.draft.${document.body.dataset.user}.${name}`;
const drafts = {
  put(name, value) { try { sessionStorage.setItem(draftOf(name), value); } catch { /* private window */ } },
  get(name) { try { return sessionStorage.getItem(draftOf(name)); } catch { return null; } },
  drop(name) { try { sessionStorage.removeItem(draftOf(name)); } catch { /* private window */ } },
};

const NOT_SENT = ["csrf", "back", "next"];

function bodyOf(form) {
  const body = {};
  for (const [name, value] of new FormData(form)) if (!NOT_SENT.includes(name) && value !== "") body[name] = value;
  for (const box of form.querySelectorAll("input[type=checkbox]")) if (box.name) body[box.name] = box.checked;
  if (body.revision) body.revision = Number(body.revision);
  return body;
}

function refuse(form, sentence) {
  const line = form.querySelector("[data-refusal]");
  if (!line) return;
  line.hidden = false;
  line.textContent = sentence;
  line.scrollIntoView({ block: "nearest" });
}

// What the page says of the gates; a refusal that names some of them goes when they have changed.
const gates = () => document.querySelector("[data-part=gates]")?.textContent ?? "";

function dropStale() {
  for (const line of document.querySelectorAll("[data-refusal][data-gates]")) {
    if (line.dataset.gates === gates()) continue;
    line.hidden = true;
    delete line.dataset.gates;
  }
}

async function post(path, body) {
  const answer = await fetch(`/api/v1${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": token(), "X-Active": "1" },
    body: JSON.stringify(body),
  });
  return { status: answer.status, answer: await answer.json().catch(() => ({})) };
}

async function act(form) {
  if (form.dataset.busy) return; // a second press while the first is on its way
  form.dataset.busy = "yes";
  const line = form.querySelector("[data-refusal]");
  if (line) { line.hidden = true; delete line.dataset.gates; }
  try {
    const { status, answer } = await post(new URL(form.action).pathname, bodyOf(form));
    if (status === 401) { document.dispatchEvent(new Event("session-ended")); return; } // what was written stays behind the cover
    if (status >= 400) {
      refuse(form, answer.error ?? "It was not done. Try again.");
      if (line && answer.code === "not_ready") line.dataset.gates = gates();
      const secret = form.querySelector("input[type=password]");
      if (secret) { secret.value = ""; secret.focus(); }
      if (answer.code === "out_of_date") { // what changed is shown around the form; pressed again, it counts
        form.querySelector("[data-revision]").value = String(answer.revision);
        refreshSoon(0);
      }
      return;
    }
    done(form, answer);
  } catch {
    refuse(form, "The dashboard does not answer. Nothing is lost: try again.");
  } finally {
    delete form.dataset.busy;
  }
}

function done(form, answer) {
  delete form.dataset.dirty;
  for (const area of form.querySelectorAll("[data-draft]")) drafts.drop(area.dataset.draft);
  for (const field of document.querySelectorAll("[data-revision]")) field.value = String(answer.revision);
  form.querySelector("input[type=password]")?.setAttribute("value", "");
  if (form.hasAttribute("data-resolve")) {
    const label = form.querySelector("input[name=label]:checked")?.nextElementSibling.lastChild.textContent.trim();
    form.querySelector("[data-kept]").textContent = `Kept: ${label}`;
    form.closest("dialog")?.querySelector("[data-stage]").focus(); // the form is drawn again; the keys stay in the viewer
  } else {
    document.activeElement?.blur(); // so that the part may be drawn again
  }
  announce(answer.done);
  refreshSoon(0);
}

// What the chosen conclusion asks for: its finer labels, and a reason where it differs from the model.
function follow(form) {
  const chosen = form.querySelector("input[name=conclusion]:checked");
  const finer = form.querySelector("[data-finer-field]");
  if (finer) {
    const options = [...finer.querySelectorAll("option[data-of]")];
    for (const option of options) option.hidden = option.disabled = option.dataset.of !== chosen?.value;
    for (const group of finer.querySelectorAll("optgroup")) group.hidden = [...group.children].every((one) => one.hidden);
    finer.hidden = options.every((option) => option.hidden);
    const select = finer.querySelector("select");
    if (select.selectedOptions[0]?.disabled) select.value = "";
  }
  const reason = form.querySelector("[data-reason-field]");
  const model = form.querySelector("[data-model]")?.dataset.model;
  if (reason) {
    const differs = Boolean(model && chosen && chosen.dataset.disease !== model);
    reason.hidden = !differs;
    reason.querySelector("select").required = differs;
    if (!differs) reason.querySelector("select").value = "";
  }
}

function dress() {
  for (const form of document.querySelectorAll("form[data-act]")) {
    if (form.querySelector("input[name=conclusion]")) follow(form);
    for (const area of form.querySelectorAll("[data-draft]")) {
      const kept = drafts.get(area.dataset.draft);
      if (kept !== null && area.value !== kept && !form.dataset.dirty) { area.value = kept; form.dataset.dirty = "yes"; }
    }
  }
  dropStale();
  title();
}

// The tab says it too; and who hears the page is told of each one that comes.
let heard = null; // how many were told of
function title() {
  const alerts = document.querySelector("[data-part=alerts]");
  const unseen = Number(alerts?.dataset.unseen ?? 0);
  if (heard !== null && unseen > heard) announce(alerts.querySelector("b").textContent);
  heard = unseen;
  const plain = document.title.replace(/^\(\d+ urgent\) /, "");
  document.title = unseen ? `(${unseen} urgent) ${plain}` : plain;
}

// Frames that were opened, sent together a moment later.
const seen = new Set();
let sending = null;

function saw(frame) {
  const place = document.querySelector("[data-live][data-reads]");
  if (!place || !frame) return;
  seen.add(frame);
  sending ??= setTimeout(() => send(place.dataset.case), 150);
}

async function send(where) {
  sending = null;
  const frames = [...seen];
  seen.clear();
  try {
    const { status, answer } = await post(`/cases/${where}/view`, { frames });
    if (status < 400 && answer.new) refreshSoon(0);
  } catch {
    frames.forEach((frame) => seen.add(frame)); // with the next one
  }
}

export function press(key) {
  const button = [...document.querySelectorAll(`[data-key="${key}"]`)].find((one) => one.checkVisibility());
  button?.click();
}

export function toConclusion() {
  const form = document.querySelector("form[action$='/conclude'], form[action$='/impression']");
  const details = form?.closest("details");
  if (details) details.open = true;
  const field = form?.querySelector("input[name=conclusion]:checked") ?? form?.querySelector("input[name=conclusion]");
  if (field) { field.focus(); form.scrollIntoView({ block: "center" }); } else document.querySelector("#review")?.scrollIntoView();
}

export function toSignature() {
  const field = document.querySelector("form[action$='/sign'] [name=amend_reason], form[action$='/sign'] input[type=password]");
  field?.focus();
  document.querySelector("#sign-title")?.scrollIntoView({ block: "center" });
}

export function sameAsModel() {
  const button = [...document.querySelectorAll("[data-confirm]")].find((one) => one.checkVisibility());
  if (!button) return false;
  button.click();
  return true;
}

// In the viewer: a digit gives the frame its class at once; x asks for the reason.
export function frameKey(key) {
  const form = document.querySelector("dialog.viewer form[data-resolve]");
  if (!form) return false;
  const radios = [...form.querySelectorAll("input[name=label]")];
  const chosen = key === "x" ? radios.at(-1) : radios[Number(key) - 1];
  if (!chosen) return false;
  chosen.checked = true;
  form.dataset.dirty = "yes";
  const reason = form.querySelector("select[name=reason]");
  if (key === "x") { if (reason.value === "read") reason.value = "out_of_focus"; reason.focus(); } else { reason.value = "read"; form.requestSubmit(); }
  return true;
}

export function startReview() {
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-act]")) return;
    event.preventDefault();
    act(event.target);
  });
  const touched = (event) => {
    const form = event.target.closest?.("form[data-act]");
    if (!form) return;
    form.dataset.dirty = "yes";
    if (event.target.matches("[data-draft]")) drafts.put(event.target.dataset.draft, event.target.value);
    if (event.target.matches("input[name=conclusion]")) follow(form);
  };
  document.addEventListener("input", touched);
  document.addEventListener("change", touched);
  // Enter in the reason for a frame keeps it, as in any other field.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("form[data-resolve] select")) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    const code = event.target.closest("[data-confirm]")?.dataset.confirm;
    if (!code) return;
    const form = event.target.closest("form");
    const radio = form.querySelector(`input[name=conclusion][value="${CSS.escape(code)}"]`);
    radio.checked = true;
    radio.focus();
    form.dataset.dirty = "yes";
    follow(form);
  });
  document.addEventListener("parts-updated", dress);
  document.addEventListener("frame-shown", (event) => saw(event.detail));
  dress();
}
