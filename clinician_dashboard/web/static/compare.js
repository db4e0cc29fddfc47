// Two frames that move and zoom together. The centre is a place in each frame (0 to 1); with known pixel sizes a micrometre
// is as long on both sides.

const MOST = 16;
const SCALE_UM = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
const SCALE_WIDEST_PX = 150;
let view = { x: 0.5, y: 0.5, zoom: 1 };
let root = null;

const fields = () => [...root.querySelectorAll("[data-field]")];

function scales() {
  const all = fields().map((field) => {
    const image = field.querySelector("img");
    const fit = Math.min(field.clientWidth / image.width, field.clientHeight / image.height);
    return { field, image, fit, um: Number(image.dataset.um) };
  });
  const same = document.querySelector("[data-same-scale]").checked && all.every((one) => one.um > 0);
  const perUm = same ? Math.min(...all.map((one) => one.fit / one.um)) : 0;
  return all.map((one) => ({ ...one, scale: (same ? perUm * one.um : one.fit) * view.zoom }));
}

function drawScale(box, pixelsPerUm) {
  box.hidden = !pixelsPerUm;
  if (!pixelsPerUm) return;
  const length = SCALE_UM.findLast((one) => one * pixelsPerUm <= SCALE_WIDEST_PX) ?? SCALE_UM[0];
  box.querySelector("i").style.width = `${length * pixelsPerUm}px`;
  box.querySelector("span").textContent = `${length}\u202fµm`;
}

function draw() {
  for (const { field, image, scale, um } of scales()) {
    drawScale(field.querySelector("[data-scale]"), um > 0 ? scale / um : 0);
    const x = field.clientWidth / 2 - view.x * image.width * scale;
    const y = field.clientHeight / 2 - view.y * image.height * scale;
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  }
  root.dataset.zoom = view.zoom.toFixed(2);
}

const clamp = (value) => Math.min(1, Math.max(0, value));

function zoom(factor) {
  view.zoom = Math.min(MOST, Math.max(1, view.zoom * factor));
  draw();
}

function pan(x, y, of = 0) {
  const { image, scale } = scales()[of];
  view.x = clamp(view.x - x / (image.width * scale));
  view.y = clamp(view.y - y / (image.height * scale));
  draw();
}

function fit() {
  view = { x: 0.5, y: 0.5, zoom: 1 };
  draw();
}

const KEYS = {
  "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit,
  ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
};

export function startCompare() {
  root = document.querySelector("[data-compare]");
  if (!root) return;
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  fields().forEach((field, number) => {
    field.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * 0.0016)); }, { passive: false });
    field.addEventListener("pointerdown", (event) => field.setPointerCapture(event.pointerId));
    field.addEventListener("pointermove", (event) => {
      if (field.hasPointerCapture(event.pointerId)) pan(event.movementX, event.movementY, number);
    });
  });
  document.querySelector("[data-same-scale]").addEventListener("change", draw);
  new ResizeObserver(draw).observe(root);
  root.focus({ preventScroll: true });
  fit();
}
