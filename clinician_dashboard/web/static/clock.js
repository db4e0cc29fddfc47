// Keeps every <time data-age> counting, in the same words as the server (web/formats.py).
const THIN = "\u202f";

export function ageInWords(seconds) {
  if (seconds < 90) return `${Math.floor(seconds)}${THIN}s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)}${THIN}min`;
  if (seconds < 172800) {
    const minutes = String(Math.floor((seconds % 3600) / 60)).padStart(2, "0");
    return `${Math.floor(seconds / 3600)}${THIN}h${THIN}${minutes}`;
  }
  return `${Math.round(seconds / 86400)}${THIN}d`;
}

function tick() {
  for (const clock of document.querySelectorAll("time[data-age]")) {
    const words = ageInWords(Math.max(0, (Date.now() - Date.parse(clock.dateTime)) / 1000));
    if (clock.textContent !== words) clock.textContent = words;
  }
}

export function startClocks() {
  tick();
  setInterval(tick, 1000);
}
