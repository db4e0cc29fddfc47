// Draws where the model looked: a 7 x 7 grid of numbers between 0 and 1, row by row from the top left, interpolated
// bilinearly over the whole frame. Viridis (S. van der Walt and N. Smith, 2015; CC0), which colour-blind readers can
// tell; low values are transparent, so that the smear stays visible where the model did not look.

const SIDE = 7;
const VIRIDIS = [
  [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140],
  [34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37],
];

export function colour(value) {
  const place = Math.min(1, Math.max(0, value)) * (VIRIDIS.length - 1);
  const low = Math.min(VIRIDIS.length - 2, Math.floor(place));
  const share = place - low;
  return VIRIDIS[low].map((channel, index) => channel + (VIRIDIS[low + 1][index] - channel) * share);
}

export function readGrid(text) {
  const values = (text ?? "").trim().split(/\s+/).map(Number);
  return values.length === SIDE * SIDE && values.every(Number.isFinite) ? values : null;
}

// The value at (x, y), both 0 to 1 over the frame. Cell centres lie at (i + 0.5) / 7; the border repeats the last cell.
export function sample(grid, x, y) {
  const column = Math.min(SIDE - 1, Math.max(0, x * SIDE - 0.5));
  const row = Math.min(SIDE - 1, Math.max(0, y * SIDE - 0.5));
  const left = Math.min(SIDE - 2, Math.floor(column));
  const top = Math.min(SIDE - 2, Math.floor(row));
  const h = column - left;
  const v = row - top;
  const at = (r, c) => grid[r * SIDE + c];
  return (at(top, left) * (1 - h) + at(top, left + 1) * h) * (1 - v)
    + (at(top + 1, left) * (1 - h) + at(top + 1, left + 1) * h) * v;
}

// Nothing below a sixth; from there it grows slowly, so that only what mattered most stands out.
const opacityAt = (value) => Math.min(1, Math.max(0, (value - 0.16) / 0.7)) ** 1.3;

export function clear(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

export function draw(canvas, grid) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const pixels = context.createImageData(width, height);
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 4) {
      const value = sample(grid, (x + 0.5) / width, (y + 0.5) / height);
      const [red, green, blue] = colour(value);
      pixels.data[at] = red;
      pixels.data[at + 1] = green;
      pixels.data[at + 2] = blue;
      pixels.data[at + 3] = 255 * opacityAt(value);
    }
  }
  context.putImageData(pixels, 0, 0);
}

export function drawLegend(canvas) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x += 1) {
    const value = x / (canvas.width - 1);
    context.fillStyle = `rgb(${colour(value).map(Math.round).join(" ")} / ${opacityAt(value)})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
}
