// A frame of many millions of pixels, drawn from tiles: only those in sight, at the size that the zoom needs. The canvas is
// as large as the stage, whatever the frame measures. The same rules as in tiles/pyramid.py: level 0 is the frame, each
// further level halves both sides, rounded up, until one tile holds it.

const TILE = 512;
const MOST_KEPT = 120; // of about a megabyte each
const AT_ONCE = 4;
const SETTLED_MS = 90; // a level that the wheel only passes through is not asked for
const AHEAD = 0.25; // of the stage on each side, so that a drag meets tiles that are there

const levelsOf = (width, height) => {
  let levels = 1;
  for (let side = Math.max(width, height); side > TILE; side = Math.ceil(side / 2)) levels += 1;
  return levels;
};

export class Tiles {
  constructor(canvas) {
    this.canvas = canvas;
    this.kept = new Map(); // key -> ImageBitmap, the oldest first
    this.loading = new Map(); // key -> AbortController
    this.failed = new Set();
    this.wanted = [];
    this.frame = null;
    this.due = null;
    this.settling = null;
  }

  // Shows another frame; `preview` is an image element that is there already, such as the card's thumbnail.
  open({ id, width, height, preview }) {
    this.close();
    this.frame = { id, width, height, preview, levels: levelsOf(width, height) };
    this.canvas.hidden = false;
  }

  close() {
    for (const one of this.loading.values()) one.abort();
    for (const bitmap of this.kept.values()) bitmap.close();
    this.kept.clear();
    this.loading.clear();
    this.failed.clear();
    this.wanted = [];
    clearTimeout(this.settling);
    this.frame = null;
    this.canvas.hidden = true;
  }

  // Shows `view` ({x, y, zoom}, in CSS pixels) on a stage of that size; drawn at the next frame of the screen.
  show(view, stage) {
    this.view = { ...view };
    this.stage = stage;
    this.redraw();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.want(), SETTLED_MS);
  }

  redraw() {
    this.due ??= requestAnimationFrame(() => { this.due = null; this.draw(); });
  }

  level() {
    const needed = Math.floor(Math.log2(1 / (this.view.zoom * devicePixelRatio)) + 1e-6);
    return Math.min(this.frame.levels - 1, Math.max(0, needed));
  }

  // The tiles of a level that touch what is in sight, `ahead` stages further on each side.
  *inSight(level, ahead) {
    const { width, height } = this.frame;
    const { x, y, zoom } = this.view;
    const cell = TILE * 2 ** level;
    const span = (place, room, whole) => [
      Math.max(0, Math.floor((-place - ahead * room) / zoom / cell)),
      Math.min(Math.ceil(whole / cell), Math.ceil((room - place + ahead * room) / zoom / cell)),
    ];
    const [left, right] = span(x, this.stage.width, width);
    const [top, bottom] = span(y, this.stage.height, height);
    for (let row = top; row < bottom; row += 1) for (let column = left; column < right; column += 1) yield { level, column, row };
  }

  want() {
    if (!this.frame) return;
    const level = this.level();
    const middle = (one) => {
      const cell = TILE * 2 ** level * this.view.zoom;
      return Math.hypot(this.view.x + (one.column + 0.5) * cell - this.stage.width / 2, this.view.y + (one.row + 0.5) * cell - this.stage.height / 2);
    };
    this.wanted = [...this.inSight(level, AHEAD)].filter((one) => !this.has(one)).sort((one, other) => middle(one) - middle(other));
    const still = new Set(this.wanted.map(keyOf));
    for (const [key, one] of this.loading) if (!still.has(key)) one.abort();
    this.load();
  }

  has(one) {
    const key = keyOf(one);
    return this.kept.has(key) || this.failed.has(key);
  }

  load() {
    while (this.loading.size < AT_ONCE && this.wanted.length) {
      const next = this.wanted.shift();
      if (!this.has(next) && !this.loading.has(keyOf(next))) this.fetch(next);
    }
  }

  async fetch(one) {
    const key = keyOf(one);
    const { frame } = this;
    const abort = new AbortController();
    this.loading.set(key, abort);
    try {
      const answer = await fetch(`/api/v1/frames/${frame.id}/tiles/${one.level}/${one.column}/${one.row}`, { signal: abort.signal });
      if (!answer.ok) throw new Error(String(answer.status));
      const bitmap = await createImageBitmap(await answer.blob()); // decoded off the page's own thread
      if (frame !== this.frame || abort.signal.aborted) { bitmap.close(); return; }
      this.kept.set(key, bitmap);
      for (const [old, gone] of this.kept) {
        if (this.kept.size <= MOST_KEPT) break;
        gone.close();
        this.kept.delete(old);
      }
      this.redraw();
    } catch (error) {
      if (error.name !== "AbortError" && frame === this.frame) this.failed.add(key); // the preview stays in its place
    } finally {
      if (this.loading.get(key) === abort) this.loading.delete(key);
      if (frame === this.frame) this.load();
    }
  }

  draw() {
    if (!this.frame) return;
    const ratio = devicePixelRatio;
    const width = Math.round(this.stage.width * ratio);
    const height = Math.round(this.stage.height * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = this.view.zoom < 4;
    const { preview, levels } = this.frame;
    // Whole pixels of the screen, so that no seam shows between neighbours.
    const place = (left, top, right, bottom) => {
      const [x, y, end, low] = [[left, this.view.x], [top, this.view.y], [right, this.view.x], [bottom, this.view.y]]
        .map(([at, start]) => Math.round((start + at * this.view.zoom) * ratio));
      return [x, y, end - x, low - y];
    };
    if (preview?.complete && preview.naturalWidth) context.drawImage(preview, ...place(0, 0, this.frame.width, this.frame.height));
    for (let level = levels - 1; level >= this.level(); level -= 1) {
      for (const one of this.inSight(level, 0)) {
        const key = keyOf(one);
        const bitmap = this.kept.get(key);
        if (!bitmap) continue;
        this.kept.delete(key); // used now, so it is the last to go
        this.kept.set(key, bitmap);
        const cell = TILE * 2 ** level;
        const [left, top] = [one.column * cell, one.row * cell];
        context.drawImage(bitmap, ...place(left, top, Math.min(this.frame.width, left + cell), Math.min(this.frame.height, top + cell)));
      }
    }
    this.canvas.dataset.drawn = `${this.level()} ${[...this.inSight(this.level(), 0)].every((one) => this.kept.has(keyOf(one)))}`;
  }
}

const keyOf = ({ level, column, row }) => `${level}/${column}/${row}`;
