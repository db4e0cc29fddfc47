// One line to the server (an EventSource), shared by every listener: in a SharedWorker by all windows of a browser, which
// has only six lines to one server; in the page itself where there is no SharedWorker.

const NAMES = ["hello", "heartbeat", "case", "fleet", "rejections", "critical", "deliveries", "models", "refresh", "ended"];
const KEPT = 1000;
const QUIET_TOO_LONG_MS = 35_000; // the server speaks at least every ten seconds
const LOOK_EVERY_MS = 5000;

const parse = (id) => {
  const [epoch, number] = (id ?? "").split("-");
  return { epoch, number: Number(number) };
};

export class Line {
  constructor() {
    this.listeners = new Map(); // function -> the id of the last event it knows
    this.events = []; // { type, data, id } in order
    this.lastId = null;
    this.lastHeard = 0;
    this.source = null;
    this.ended = false; // the session has; nothing is opened until somebody listens again
    setInterval(() => this.look(), LOOK_EVERY_MS);
  }

  // Calls `tell` with each event after the one named `since`; with a "refresh" alone where that cannot be told.
  listen(tell, since) {
    this.listeners.set(tell, since);
    this.ended = false;
    if (!this.source || this.source.readyState === EventSource.CLOSED) {
      this.open(this.lastId ?? since);
      if (this.lastId) this.catchUp(tell, since);
      return;
    }
    if (this.lastId) this.catchUp(tell, since);
    else if (this.listeners.size > 1) tell({ type: "refresh" }); // the line is still being opened, from elsewhere
  }

  forget(tell) {
    this.listeners.delete(tell);
    if (this.listeners.size) return;
    this.source?.close();
    this.source = null;
    this.events = [];
    this.lastId = null;
  }

  catchUp(tell, since) {
    const wanted = parse(since);
    const now = parse(this.lastId);
    const oldest = this.events.length ? parse(this.events[0].id).number : now.number + 1;
    if (wanted.epoch !== now.epoch || (wanted.number < now.number && wanted.number < oldest - 1)) {
      tell({ type: "refresh", id: this.lastId });
      return;
    }
    for (const event of this.events) if (parse(event.id).number > wanted.number) tell(event);
    tell({ type: "hello", id: this.lastId });
  }

  open(since) {
    this.source?.close();
    // A line that was lost catches up from the last event it heard; the server answers "refresh" when it cannot.
    const source = new EventSource(`/api/v1/events?since=${encodeURIComponent(since ?? "")}`);
    this.source = source;
    this.lastHeard = Date.now();
    for (const name of NAMES) source.addEventListener(name, (event) => this.heard(event));
    source.onerror = () => this.tell({ type: "lost" });
  }

  heard(event) {
    this.lastHeard = Date.now();
    if (event.type === "ended") {
      this.ended = true;
      this.source.close();
      this.tell({ type: "ended" });
      return;
    }
    const told = { type: event.type, data: event.data, id: event.lastEventId };
    if (event.lastEventId) this.lastId = event.lastEventId;
    if (event.type === "refresh") this.events = [];
    else if (event.type !== "hello" && event.type !== "heartbeat") this.events.push(told);
    if (this.events.length > KEPT) this.events.shift();
    this.tell(told);
  }

  tell(event) {
    for (const tell of [...this.listeners.keys()]) tell(event);
  }

  look() {
    if (!this.listeners.size || this.ended) return;
    const dead = !this.source || this.source.readyState === EventSource.CLOSED;
    if (!dead && Date.now() - this.lastHeard <= QUIET_TOO_LONG_MS) return;
    this.tell({ type: "lost" });
    this.open(this.lastId ?? [...this.listeners.values()][0]);
  }
}
