// The page's line to the server: one EventSource. It says what changed; the page then fetches its parts again.
import { update } from "./parts.js";

const QUIET_TOO_LONG_MS = 35_000; // the server speaks at least every ten seconds
const GATHER_MS = 200; // several changes at once are fetched once
const TYPING_MS = 200;

let part = null; // the element that says which fragment this page lives on
let timer = null; // of the next fetch; only ever one
let fetching = false;
let again = false;
let asked = 0; // what was asked last is what is shown
let lastHeard = Date.now();
let source = null;
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

function connect() {
  if (document.hidden) return; // a browser has few lines to one server: pages in the background give theirs back
  source?.close();
  // A line that was lost catches up from the last event it heard; the server answers "refresh" when it cannot.
  source = new EventSource(`/api/v1/events?since=${encodeURIComponent(lastId)}`);
  lastHeard = Date.now();
  const heard = (event) => {
    lastHeard = Date.now();
    if (event.lastEventId) lastId = event.lastEventId;
    show("live", "Live");
    if (event.type === "critical" || event.type === "refresh") alerts();
    if (part && event.type !== "hello" && event.type !== "heartbeat" && concerns(event)) refreshSoon();
  };
  for (const name of ["hello", "heartbeat", "case", "fleet", "rejections", "critical", "deliveries", "refresh"]) source.addEventListener(name, heard);
  source.onerror = () => show("lost", "Not live");
}

export function startLive() {
  part = document.querySelector("[data-live]");
  connect();
  document.addEventListener("visibilitychange", () => { if (document.hidden) source?.close(); else connect(); });
  setInterval(() => {
    if (document.hidden) return;
    if (Date.now() - lastHeard > QUIET_TOO_LONG_MS || source?.readyState === EventSource.CLOSED) {
      show("lost", "Not live");
      connect();
    }
  }, 5000);
  if (part?.dataset.every) setInterval(() => document.hidden || refreshSoon(0), Number(part.dataset.every) * 1000);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => { if (event.persisted) { connect(); refreshSoon(0); } });
}
