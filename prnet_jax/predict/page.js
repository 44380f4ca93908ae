
// Shows a prediction slice by slice. Slices, masks and probabilities are pictures in the data.

const last = data.slices.length - 1;
const canvas = byId("view");
const chosen = { slice: data.start, contour: true, prob: false, window: 0 };
const digits = data.area_unit === "px" ? 0 : 1;
const numbers = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const areaText = (z) => `${numbers.format(data.areas[z])} ${data.area_unit}`;

// ---- pictures

// A picture's pixels, four numbers each, of which the first is the level.
async function decode(source) {
  if (!source) return null;
  const image = new Image();
  image.src = source;
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  const context = blank(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height);
}

function blank(width, height) {
  const made = document.createElement("canvas");
  made.width = width;
  made.height = height;
  return made;
}

// A canvas with a picture whose level i has the colour colours[i], [red, green, blue, alpha].
function coloured(picture, colours) {
  const made = blank(picture.width, picture.height);
  const context = made.getContext("2d");
  const pixels = context.createImageData(picture.width, picture.height);
  // Four bytes at a time, which is much faster.
  const packed = new Uint32Array(Uint8ClampedArray.from(colours.flat()).buffer);
  const target = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < target.length; i += 1) target[i] = packed[picture.data[4 * i]];
  context.putImageData(pixels, 0, 0);
  return made;
}

// ---- colours of the 256 levels

function windowed() {
  const window = data.windows[chosen.window];
  return Array.from({ length: 256 }, (_, level) => {
    let grey = level;
    if (window) {
      const i = Math.max(1, data.levels.findIndex(([, end]) => level <= end));
      const [[low, from], [high, to]] = [data.levels[i - 1], data.levels[i]];
      const value = low + (level - from) / (to - from) * (high - low);
      grey = 255 * (value - window.low) / (window.high - window.low);
    }
    grey = Math.round(Math.min(255, Math.max(0, grey)));
    return [grey, grey, grey, 255];
  });
}

// From nothing over blue and orange to a thin yellow, so that doubt is what stands out.
const RAMP = [[60, 70, 255, 0], [70, 90, 255, 130], [255, 110, 50, 150], [255, 225, 60, 70]];
const heat = Array.from({ length: 256 }, (_, level) => {
  const place = level / 255 * (RAMP.length - 1);
  const i = Math.min(RAMP.length - 2, Math.floor(place));
  return RAMP[i].map((from, channel) => Math.round(from + (place - i) * (RAMP[i + 1][channel] - from)));
});

// ---- contour

// Where a mask's border cuts the edges of a square of four pixels, by which of them it holds:
// pairs of edges, counted clockwise from the top.
const CUTS = [[], [3, 0], [0, 1], [3, 1], [1, 2], [3, 0, 1, 2], [0, 2], [3, 2],
  [2, 3], [0, 2], [0, 1, 2, 3], [1, 2], [3, 1], [0, 1], [3, 0], []];
const EDGES = [[1, 0.5], [1.5, 1], [1, 1.5], [0.5, 1]];

function contour(mask, scale) {
  const { width, height, data: pixels } = mask;
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height && pixels[4 * (y * width + x)] > 127 ? 1 : 0);
  const path = new Path2D();
  for (let y = -1; y < height; y += 1) {
    for (let x = -1; x < width; x += 1) {
      const cuts = CUTS[at(x, y) | at(x + 1, y) << 1 | at(x + 1, y + 1) << 2 | at(x, y + 1) << 3];
      cuts.forEach((edge, i) => {
        const [dx, dy] = EDGES[edge];
        path[i % 2 ? "lineTo" : "moveTo"]((x + dx) * scale[0], (y + dy) * scale[1]);
      });
    }
  }
  return path;
}

// ---- the slice

let turn = 0;

async function draw() {
  turn += 1;
  const [mine, z] = [turn, chosen.slice];
  const sources = [data.slices[z], chosen.prob && data.probs[z], chosen.contour && data.masks[z]];
  const [picture, prob, mask] = await Promise.all(sources.map(decode));
  if (mine !== turn) return; // another slice was chosen meanwhile
  const zoom = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * zoom);
  canvas.height = Math.round(canvas.clientHeight * zoom);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const whole = [0, 0, canvas.width, canvas.height];
  context.drawImage(coloured(picture, windowed()), ...whole);
  if (prob) context.drawImage(coloured(prob, heat), ...whole);
  if (mask) {
    const path = contour(mask, [canvas.width / mask.width, canvas.height / mask.height]);
    context.lineCap = "round";
    for (const [colour, width] of [["rgb(0 0 0 / .5)", 3], [`rgb(${data.colour.join(" ")})`, 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * zoom;
      context.stroke(path);
    }
  }
  canvas.setAttribute("aria-label", `Slice ${z + 1} of ${last + 1}, ${areaText(z)} marked`);
}

// ---- areas along the axis

let moveCursor = () => {};
let sliceAt = () => chosen.slice;

function drawCurve() {
  const holder = byId("areas");
  const [width, height, left, right, top, bottom] = [holder.clientWidth, holder.clientHeight, 52, 16, 22, 36];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ width, height, role: "img", "aria-label": "Marked area of every slice" })) svg.setAttribute(name, value);
  const most = Math.max(...data.areas) || 1;
  const floor = height - bottom;
  const x = (z) => left + z / last * (width - left - right);
  const y = (area) => floor - area / most * (floor - top);
  for (const tick of ticks(0, most, 4)) {
    const group = shape(svg, "g", { class: "tick" });
    shape(group, "line", { x1: left, x2: width - right, y1: y(tick.value), y2: y(tick.value) });
    shape(group, "text", { x: left - 6, y: y(tick.value) + 4, "text-anchor": "end" }, tick.text);
  }
  for (const tick of ticks(1, last + 1, Math.min(last, width / 80))) {
    if (!Number.isInteger(tick.value)) continue;
    const group = shape(svg, "g", { class: "tick" });
    shape(group, "text", { x: x(tick.value - 1), y: floor + 16, "text-anchor": "middle" }, tick.text);
  }
  shape(svg, "text", { x: left, y: 12 }, `marked area, ${data.area_unit}`);
  shape(svg, "text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, "slice");
  const points = data.areas.map((area, z) => `${x(z).toFixed(1)} ${y(area).toFixed(1)}`);
  shape(svg, "path", { class: "area", d: `M${x(0)} ${floor}L${points.join("L")}L${x(last)} ${floor}Z` });
  shape(svg, "path", { class: "line", d: `M${points.join("L")}` });
  shape(svg, "line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor });
  const line = shape(svg, "line", { class: "now", y1: top, y2: floor });
  const dot = shape(svg, "circle", { class: "dot", r: 4 });
  holder.replaceChildren(svg);
  moveCursor = () => {
    const [cx, cy] = [x(chosen.slice), y(data.areas[chosen.slice])];
    for (const end of ["x1", "x2"]) line.setAttribute(end, cx);
    dot.setAttribute("cx", cx);
    dot.setAttribute("cy", cy);
  };
  sliceAt = (event) => {
    const place = event.clientX - svg.getBoundingClientRect().left - left;
    return Math.round(place / (width - left - right) * last);
  };
  moveCursor();
}

// ---- choices

function goTo(z) {
  chosen.slice = Math.min(last, Math.max(0, z));
  byId("slider").value = chosen.slice + 1;
  const area = areaText(chosen.slice);
  byId("where").textContent = last ? `${chosen.slice + 1} / ${last + 1}   ${area}` : area;
  moveCursor();
  draw();
}

function switchLayer(name) {
  chosen[name] = !chosen[name];
  byId(name).checked = chosen[name];
  byId("legend").hidden = !chosen.prob;
  draw();
}

function chooseWindow(number) {
  chosen.window = number;
  [...byId("windows").children].forEach((button, i) => button.setAttribute("aria-pressed", i === number));
  draw();
}

const KEYS = {
  ArrowRight: () => goTo(chosen.slice + 1), ArrowUp: () => goTo(chosen.slice + 1),
  ArrowLeft: () => goTo(chosen.slice - 1), ArrowDown: () => goTo(chosen.slice - 1),
  PageUp: () => goTo(chosen.slice + 10), PageDown: () => goTo(chosen.slice - 10),
  Home: () => goTo(0), End: () => goTo(last),
};
const LETTERS = {
  c: () => switchLayer("contour"), p: () => switchLayer("prob"),
  w: () => data.windows.length && chooseWindow((chosen.window + 1) % data.windows.length),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const act = (last && KEYS[event.key]) || LETTERS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault(); // or the slider and the page would move too
  act();
});

// ---- the page

canvas.style.setProperty("--aspect", data.aspect);
byId("side").hidden = !data.oriented;
for (const name of ["contour", "prob"]) {
  byId(name).checked = chosen[name]; // a browser may remember another
  byId(name).addEventListener("change", () => switchLayer(name));
}
data.windows.forEach((window, number) => {
  const words = `${window.low} to ${window.high} HU`;
  const button = element("button", { type: "button", title: words }, window.name);
  button.addEventListener("click", () => chooseWindow(number));
  byId("windows").append(button);
});
const stops = heat.filter((_, i) => i % 51 === 0).map(([r, g, b, a]) => `rgb(${r} ${g} ${b} / ${a / 255})`);
byId("ramp").style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
byId("ramp").firstChild.style.left = `calc(${100 * data.threshold}% - 1px)`;
byId("threshold").textContent = `probability; the mask begins at ${Number(data.threshold.toFixed(4))}`;

const keys = [["c", "contour"], ["p", "probability"]];
if (data.windows.length) keys.push(["w", "window"]);
if (last) keys.unshift(["\u2190 \u2192", "slice"], ["Home End", "first and last"]);
for (const [key, words] of keys) byId("keys").append(element("kbd", {}, key), ` ${words}   `);

if (last) {
  byId("slider").max = last + 1;
  byId("slider").addEventListener("input", (event) => goTo(event.target.value - 1));
  byId("back").addEventListener("click", () => goTo(chosen.slice - 1));
  byId("on").addEventListener("click", () => goTo(chosen.slice + 1));
  byId("order").textContent = `${data.oriented ? "From feet to head. " : ""}Click the curve to see a slice.`;
  new ResizeObserver(drawCurve).observe(byId("areas"));
  const jump = (event) => goTo(sliceAt(event));
  byId("areas").addEventListener("pointerdown", jump);
  byId("areas").addEventListener("pointermove", (event) => { if (event.buttons) jump(event); });
} else {
  for (const id of ["steps", "curve"]) byId(id).hidden = true;
}
goTo(chosen.slice);
if (data.windows.length) chooseWindow(0);

new ResizeObserver(draw).observe(canvas);
