// Runs once for all windows of a browser (a SharedWorker): they share one line to the server.
import { Line } from "./line.js";

const GONE_AFTER_MS = 150_000; // a window in the background may speak once a minute only
const line = new Line();
const ports = new Map(); // port -> when it last spoke, and how it is told

function drop(port) {
  const known = ports.get(port);
  if (known) line.forget(known.tell);
  ports.delete(port);
}

self.addEventListener("connect", (connection) => {
  const port = connection.ports[0];
  const tell = (event) => port.postMessage(event);
  port.addEventListener("message", ({ data }) => {
    if (data.do === "rest") { drop(port); return; }
    const known = ports.get(port);
    ports.set(port, { at: Date.now(), tell });
    if (data.do === "listen" || !known) line.listen(tell, data.since);
  });
  port.start();
});

setInterval(() => {
  for (const [port, { at }] of [...ports]) if (Date.now() - at > GONE_AFTER_MS) drop(port);
}, 30_000);
