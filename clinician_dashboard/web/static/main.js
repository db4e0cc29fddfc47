// Starts what the page needs.
import { startClocks } from "./clock.js";
import { startCompare } from "./compare.js";
import { startFrames, startPages } from "./frames.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { startReview } from "./review.js";
import { startSession } from "./session.js";

// An image that cannot be shown leaves its place to what lies behind it. Some may have failed before this ran.
const failed = (image) => image.classList.add("failed");
document.addEventListener("error", (event) => { if (event.target.matches?.("img")) failed(event.target); }, true);
document.addEventListener("load", (event) => { if (event.target.matches?.("img")) event.target.classList.remove("failed"); }, true);
for (const image of document.images) {
  if (image.currentSrc && image.complete && !image.naturalWidth) failed(image);
}

startClocks();
startKeys();
startFrames();
startCompare();
startPages();
startReview();
startSession();
startLive();
