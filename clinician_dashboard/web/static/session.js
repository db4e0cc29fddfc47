// The session: tells the server that somebody is there, and covers the page when it has ended. What was written stays
// behind the cover: who signs in again, in another tab, finds it as it was.
const ACTIVE_EVERY_MS = 60_000; // somebody who types or points is told of so often, and stays signed in

const user = document.body.dataset.user;
const cover = () => document.querySelector("[data-ended]");
let told = Date.now();

async function ask(active) {
  const headers = active ? { "X-Active": "1" } : {};
  try {
    const answer = await fetch("/session", { headers });
    if (answer.ok) return await answer.json();
    return answer.status === 401 ? null : undefined;
  } catch {
    return undefined; // the line is away: nothing is known
  }
}

function onActive() {
  if (cover().open || Date.now() - told < ACTIVE_EVERY_MS) return;
  told = Date.now();
  ask(true).then((known) => { if (known === null) ended(); });
}

function ended() {
  if (!user || cover().open) return;
  cover().querySelector("a").href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
  cover().showModal();
}

// Back in this tab: the same person goes on where they were, anybody else gets a page of their own.
async function onReturn() {
  if (document.hidden) return;
  const known = await ask(cover().open);
  if (known === null) ended();
  if (!known || (!cover().open && known.name === user)) return;
  if (known.name !== user) { location.reload(); return; }
  document.querySelector("meta[name=csrf]").content = known.csrf;
  for (const field of document.querySelectorAll("input[name=csrf]")) field.value = known.csrf;
  cover().close();
  document.dispatchEvent(new Event("session-resumed"));
}

export function startSession() {
  if (!user) return;
  for (const kind of ["pointerdown", "keydown", "wheel"]) addEventListener(kind, onActive, { passive: true, capture: true });
  document.addEventListener("session-ended", ended);
  document.addEventListener("visibilitychange", onReturn);
  addEventListener("focus", onReturn);
  cover().addEventListener("cancel", (event) => event.preventDefault());
  cover().querySelector("[data-do=back]").addEventListener("click", onReturn);
}
