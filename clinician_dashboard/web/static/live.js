// What the server says on the line that all windows share: what changed. The page then fetches its parts again.
import { Line } from "./line.js";
import { update } from "./parts.js";

const QUIET_TOO_LONG_MS = 45_000; // the line itself looks for silence sooner
const GATHER_MS = 200; // several changes at once are fetched once
const TYPING_MS = 200;

let part = null; // the element that says which fragment this page lives on
let timer = null; // of the next fetch; only ever one
let fetching = false;
let again = false;
let asked = 0; // what was asked last is what is shown
let lastHeard = Date.now();
let lastId = document.body.dataset.feed;

function show(state, words) {
  const line = document.querySelector("[data-line]");
  if (!line) return;
  line.dataset.line = state;
  line.querySelector("span").textContent = words;
}

export function announce(words) {
  document.querySelector("[data-say]").textContent = words;
}

// A fetch that is due stays due: events that come faster than it would otherwise put it off for ever.
export function refreshSoon(delay = GATHER_MS) {
  if (!part) return;
  if (fetching) again = true;
  else timer ??= setTimeout(() => refresh(), delay);
}

async function refresh({ turned = false } = {}) {
  clearTimeout(timer);
  timer = null;
  fetching = true;
  const mine = (asked += 1);
  try {
    const answer = await fetch(part.dataset.live + location.search, { headers: { Accept: "text/html" } });
    if (answer.status === 401) document.dispatchEvent(new Event("session-ended"));
    const html = await answer.text();
    if (answer.ok && mine === asked) update(html, { announce: turned ? null : announce });
  } catch {
    again = true; // the line is away; its return asks again
  } finally {
    if (mine === asked) {
      fetching = false;
      if (again) { again = false; refreshSoon(1000); }
    }
  }
}

// Shows another page or filter of what the page lists, in place; the address follows, so that it can be shared.
export async function turn(search) {
  history.replaceState(null, "", location.pathname + search);
  await refresh({ turned: true });
}

let typing = null;
export function turnSoon(search) {
  history.replaceState(null, "", location.pathname + search);
  clearTimeout(typing);
  typing = setTimeout(() => refresh({ turned: true }), TYPING_MS);
}

// Critical cases are told on every page, those that show nothing live too.
async function alerts() {
  if (!document.querySelector("[data-part=alerts]")) return;
  try {
    const answer = await fetch("/fragments/alerts", { headers: { Accept: "text/html" } });
    if (answer.ok) update(await answer.text());
  } catch { /* the line's return asks again */ }
}

function concerns(event) {
  if (event.type === "refresh") return true;
  if (!part.dataset.on.split(" ").includes(event.type)) return event.type === "rejections";
  if (event.type !== "case" || !part.dataset.case) return true;
  const { site, code } = JSON.parse(event.data);
  return part.dataset.case === `${site}/${code}`;
}

function heard(event) {
  lastHeard = Date.now();
  if (event.type === "lost") { show("lost", "Not live"); return; }
  if (event.type === "ended") {
    document.dispatchEvent(new Event("session-ended"));
    show("lost", "Signed out");
    return;
  }
  if (event.id) lastId = event.id;
  show("live", "Live");
  if (event.type === "critical" || event.type === "refresh") alerts();
  if (part && event.type !== "hello" && event.type !== "heartbeat" && concerns(event)) refreshSoon();
}

// All windows of a browser share one line where it can (a SharedWorker); otherwise this one has its own.
function makeLine() {
  try {
    const worker = new SharedWorker("/static/line-worker.js", { type: "module", name: `hemolink-line-${document.body.dataset.user}` });
    worker.port.addEventListener("message", ({ data }) => heard(data));
    worker.port.start();
    const say = (what) => worker.port.postMessage({ do: what, since: lastId });
    return { listen: () => say("listen"), stay: () => say("stay"), rest: () => say("rest") };
  } catch {
    const own = new Line();
    return { listen: () => own.listen(heard, lastId), stay: () => {}, rest: () => own.forget(heard) };
  }
}

export function startLive() {
  part = document.querySelector("[data-live]");
  if (!document.body.dataset.user) return; // nobody is signed in
  const line = makeLine();
  const listen = () => { lastHeard = Date.now(); line.listen(); };
  if (!document.hidden) listen();
  document.addEventListener("visibilitychange", () => (document.hidden ? line.rest() : listen()));
  setInterval(() => {
    if (document.hidden) return;
    if (Date.now() - lastHeard > QUIET_TOO_LONG_MS) { show("lost", "Not live"); listen(); } else line.stay();
  }, 5000);
  if (part?.dataset.every) setInterval(() => document.hidden || refreshSoon(0), Number(part.dataset.every) * 1000);
  document.addEventListener("session-resumed", () => { listen(); refreshSoon(0); });
  addEventListener("pagehide", () => line.rest());
  addEventListener("pageshow", (event) => { if (event.persisted) { listen(); refreshSoon(0); } });
}
