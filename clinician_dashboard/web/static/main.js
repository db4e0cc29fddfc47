// Starts what the page needs.
import { startClocks } from "./clock.js";
import { startFrames } from "./frames.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";

startClocks();
startKeys();
startFrames();
startLive();
