// Draws the plots of the comparison from the embedded JSON. All text is inserted as text, never as
// markup, because ids and labels come from files that others wrote.

const metricNamed = new Map(data.metrics.map((metric) => [metric.name, metric]));

function format(metric, value) {
  return value === null || value === undefined
    ? "-" : (value * metric.factor).toFixed(metric.decimals);
}

// ---- pickers

function fillPicker(id, options, chosen, onChange) {
  const picker = byId(id);
  for (const [value, label] of options) picker.append(element("option", { value }, label));
  picker.value = chosen;
  picker.addEventListener("change", onChange);
}

// ---- tables

function sortValue(cell) {
  // "97.1 ± 0.2", "<0.0001" and "+0.3 to +0.5" sort by their first number; "-" has no number.
  const match = /^<?([+-]?\d[\d.]*(?:e[+-]?\d+)?)/.exec(cell.textContent.trim());
  return match ? parseFloat(match[1]) : NaN;
}

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const numeric = rows.some((row) => !Number.isNaN(sortValue(row.cells[column]))) && column > 0;
  rows.sort((a, b) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    if (!numeric) return direction * x.textContent.localeCompare(y.textContent);
    const [p, q] = [sortValue(x), sortValue(y)];
    // Cells without a number stay at the end in both directions.
    if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q);
    return direction * (p - q);
  });
  body.append(...rows);
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.setAttribute("aria-sort", "none");
    const words = [...table.tBodies[0].rows].some((row) => /^[^\d<+-]/.test(row.cells[column].textContent));
    if (words && column > 0) {
      head.classList.add("text");
      for (const body of table.tBodies) for (const row of body.rows) row.cells[column].classList.add("text");
    }
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sortBy(table, column, up ? 1 : -1);
    });
  });
}

function filterTable(id, name) {
  for (const row of document.querySelectorAll(`#${id} tbody tr`)) {
    row.hidden = name !== "" && row.dataset.metric !== name;
  }
}

// ---- scales

function range(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const margin = (high - low || Math.abs(high) || 1) * 0.04;
  return [low - margin, high + margin];
}

function quantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const below = Math.floor(place);
  return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

// Shortens a label to the space that it has; its title holds the full text.
function cut(text, room) {
  const most = Math.max(4, Math.floor(room / 6.6));
  return text.length <= most ? text : `${text.slice(0, most - 1)}\u2026`;
}

function emptyPlot(holder) {
  holder.replaceChildren(element("p", { class: "hint" }, "No image has a value."));
}

// ---- box plots

function drawBoxes() {
  const metric = metricNamed.get(byId("box-metric").value);
  const holder = byId("box-plot");
  const points = data.rows.map((row) => row.scores[metric.name]
    .map((value, image) => ({ value: value === null ? null : value * metric.factor, image }))
    .filter((point) => point.value !== null));
  const all = points.flat().map((point) => point.value);
  if (!all.length) return emptyPlot(holder);

  const width = Math.max(300, holder.clientWidth);
  const left = Math.min(230, Math.max(122, width * 0.2));
  const [band, top, bottom] = [44, 6, 44];
  const height = top + band * data.rows.length + bottom;
  const [low, high] = range(all);
  const x = (value) => left + ((value - low) / (high - low)) * (width - left - 14);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Box plots of ${metric.label} per network`);

  const floor = height - bottom;
  for (const tick of ticks(low, high, width / 110)) {
    const group = shape(svg, "g", { class: "tick" });
    shape(group, "line", { x1: x(tick.value), x2: x(tick.value), y1: top, y2: floor });
    shape(group, "text", { x: x(tick.value), y: floor + 16, "text-anchor": "middle" }, tick.text);
  }
  shape(svg, "text", { x: (left + width) / 2, y: height - 8, "text-anchor": "middle" }, metric.label);

  data.rows.forEach((row, index) => {
    const group = shape(svg, "g", row.reference ? { class: "reference" } : {});
    const y = top + band * (index + 0.5);
    const label = shape(group, "text", { x: left - 10, y: y + 4, "text-anchor": "end" }, cut(row.label, left - 14));
    shape(label, "title", {}, row.label);
    const sorted = points[index].map((point) => point.value).sort((a, b) => a - b);
    if (!sorted.length) return;
    const [q1, middle, q3] = [0.25, 0.5, 0.75].map((share) => quantile(sorted, share));
    const reach = 1.5 * (q3 - q1);
    const least = sorted.find((value) => value >= q1 - reach);
    const most = sorted.findLast((value) => value <= q3 + reach);
    const mean = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
    shape(group, "line", { class: "whisker", x1: x(least), x2: x(q1), y1: y, y2: y });
    shape(group, "line", { class: "whisker", x1: x(q3), x2: x(most), y1: y, y2: y });
    const box = { class: "box", x: x(q1), y: y - 11, width: Math.max(1, x(q3) - x(q1)), height: 22 };
    shape(group, "rect", box);
    shape(group, "line", { class: "median", x1: x(middle), x2: x(middle), y1: y - 11, y2: y + 11 });
    // A fixed vertical scatter: equal values are visible, and a redraw changes nothing.
    for (const point of points[index]) {
      const shift = ((point.image * 0.618034) % 1 - 0.5) * 18;
      const dot = shape(group, "circle", { class: "dot", cx: x(point.value), cy: y + shift, r: 2.2 });
      shape(dot, "title", {}, `${data.ids[point.image]}: ${point.value.toFixed(metric.decimals)}`);
    }
    const m = x(mean);
    const diamond = shape(group, "path", { class: "mean", d: `M${m - 5} ${y}L${m} ${y - 5}L${m + 5} ${y}L${m} ${y + 5}Z` });
    shape(diamond, "title", {}, `mean ${mean.toFixed(metric.decimals)}, median ${middle.toFixed(metric.decimals)}`);
  });
  holder.replaceChildren(svg);
}

// ---- pictures

function figureOf(row, image, best) {
  const figure = element("figure");
  const source = row.pictures[image];
  if (source) figure.append(element("img", { src: source, alt: `${data.ids[image]}, ${row.label}: contours` }));
  else figure.append(element("p", { class: "hint" }, "no picture"));
  const caption = element("figcaption");
  caption.append(element("b", {}, row.label));
  const parts = [];
  for (const name of ["dsc", "iou", "hd_px", "hd_mm"]) {
    const metric = metricNamed.get(name);
    const value = metric && row.shown[name][image];
    if (metric && value !== undefined && value !== null) parts.push(`${metric.title} ${format(metric, value)} ${metric.unit}`);
  }
  if (row.shown_empty[image]) parts.unshift("rightly nothing marked");
  const seed = / \(\d+ seeds\)$/.test(row.label) ? ` (seed ${row.shown_seed})` : "";
  for (const [i, part] of parts.entries()) {
    caption.append(element("span", best && i === 0 ? { class: "best" } : {}, part + (i === 0 ? seed : "")));
  }
  figure.append(caption);
  return figure;
}

function panels(image, rows) {
  const article = element("article");
  article.append(element("h3", {}, data.ids[image]));
  const holder = element("div", { class: "panels" });
  const shown = rows.map((row) => (row.shown_empty[image] ? 1 : row.shown.dsc?.[image] ?? -1));
  const best = Math.max(...shown);
  rows.forEach((row, i) => holder.append(figureOf(row, image, rows.length > 1 && shown[i] === best)));
  article.append(holder);
  return article;
}

const AT_ONCE = 8;
let shownImages = AT_ONCE;

function drawGallery() {
  const pair = byId("gallery-order").value === "pair";
  const rows = pair ? scatterRows() : data.rows;
  const difference = (image) => {
    const values = rows.map((row) => row.paired_dsc[image]);
    return Math.max(...values) - Math.min(...values);
  };
  const order = [...data.embedded].sort((a, b) => difference(b) - difference(a));
  byId("gallery").replaceChildren(...order.slice(0, shownImages).map((image) => panels(image, rows)));
  byId("gallery-more").hidden = order.length <= shownImages;
}

// ---- scatter

function scatterRows() {
  const rows = ["scatter-x", "scatter-y"].map((id) => data.rows[Number(byId(id).value)]);
  return rows[0] === rows[1] ? [rows[0]] : rows;
}

function choose(image, point) {
  if (!point) return;
  for (const other of document.querySelectorAll(".chosen")) other.classList.remove("chosen");
  point.classList.add("chosen");
  byId("scatter-detail").replaceChildren(panels(image, scatterRows()));
}

function drawScatter() {
  const metric = metricNamed.get(byId("scatter-metric").value);
  const [across, up] = ["scatter-x", "scatter-y"].map((id) => data.rows[Number(byId(id).value)]);
  const holder = byId("scatter-plot");
  byId("scatter-detail").replaceChildren(element("p", { class: "hint" },
    data.embedded.length ? "Click a filled dot to see its image." : ""));
  const points = data.ids.map((id, image) => ({
    image, x: across.scores[metric.name][image], y: up.scores[metric.name][image],
  })).filter((point) => point.x != null && point.y != null)
    .map((point) => ({ image: point.image, x: point.x * metric.factor, y: point.y * metric.factor }));
  byId("scatter-note").textContent = "";
  if (!points.length) return emptyPlot(holder);

  const size = Math.min(520, Math.max(280, holder.clientWidth));
  const [left, bottom, margin] = [62, 46, 10];
  const [low, high] = range(points.flatMap((point) => [point.x, point.y]));
  const x = (value) => left + ((value - low) / (high - low)) * (size - left - margin);
  const y = (value) => size - bottom - ((value - low) / (high - low)) * (size - bottom - margin);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("width", size);
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `${metric.label} of ${across.label} and ${up.label}, image by image`);
  for (const tick of ticks(low, high, 6)) {
    const group = shape(svg, "g", { class: "tick" });
    shape(group, "line", { x1: x(tick.value), x2: x(tick.value), y1: margin, y2: size - bottom });
    shape(group, "line", { x1: left, x2: size - margin, y1: y(tick.value), y2: y(tick.value) });
    shape(group, "text", { x: x(tick.value), y: size - bottom + 16, "text-anchor": "middle" }, tick.text);
    shape(group, "text", { x: left - 6, y: y(tick.value) + 4, "text-anchor": "end" }, tick.text);
  }
  shape(svg, "line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) });
  const room = size - left - margin;
  const label = (row) => cut(`${metric.label}, ${row.label}`, room);
  shape(svg, "text", { x: left + room / 2, y: size - 8, "text-anchor": "middle" }, label(across));
  shape(svg, "text", { transform: `translate(13 ${margin + room / 2}) rotate(-90)`, "text-anchor": "middle" }, label(up));

  const embedded = new Set(data.embedded);
  const circles = new Map();
  // Points with a picture last: they lie on top and can be clicked.
  points.sort((a, b) => embedded.has(a.image) - embedded.has(b.image));
  const counts = [0, 0, 0];
  for (const point of points) {
    const gain = (point.y - point.x) * (metric.higher_is_better ? 1 : -1);
    counts[gain > 0 ? 0 : gain < 0 ? 1 : 2] += 1;
    const shown = embedded.has(point.image);
    const words = `${data.ids[point.image]}: ${point.x.toFixed(metric.decimals)} and ${point.y.toFixed(metric.decimals)}`;
    const circle = shape(svg, "circle", {
      class: shown ? "point shown" : "point", cx: x(point.x), cy: y(point.y), r: 5,
      ...(shown ? { tabindex: 0, role: "button", "aria-label": words } : {}),
    });
    shape(circle, "title", {}, words);
    if (!shown) continue;
    circles.set(point, circle);
    circle.addEventListener("click", () => choose(point.image, circle));
    circle.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(point.image, circle);
    });
  }
  holder.replaceChildren(svg);
  // At first, the image on which the two differ most.
  const gap = (point) => Math.abs(point.x - point.y);
  const [widest] = [...circles.keys()].sort((a, b) => gap(b) - gap(a));
  choose(widest?.image, circles.get(widest));
  byId("scatter-note").textContent = across === up
    ? "Both axes are the same network."
    : `${up.label} is better on ${counts[0]} images, ${across.label} on ${counts[1]}, equal on ${counts[2]}.`;
}

// ---- the page

const metricOptions = data.metrics.map((metric) => [metric.name, metric.label]);
const usual = metricNamed.has("dsc") ? "dsc" : data.metrics[0].name;
const rowOptions = data.rows.map((row, index) => [String(index), row.label]);
const reference = data.rows.findIndex((row) => row.reference);
const rival = data.rows.findIndex((row) => !row.reference);
const drawPair = () => { drawScatter(); if (byId("gallery-order").value === "pair") drawGallery(); };

document.querySelectorAll("table.sortable").forEach(makeSortable);
for (const [id, table] of [["statistics-metric", "table-statistics"], ["every-metric", "table-every"]]) {
  const filter = () => filterTable(table, byId(id).value);
  fillPicker(id, [["", "all"], ...metricOptions], usual, filter);
  filter();
}
if (!byId("table-statistics")) byId("statistics-metric").closest(".controls").hidden = true;
fillPicker("box-metric", metricOptions, usual, drawBoxes);
fillPicker("scatter-metric", metricOptions, usual, drawScatter);
fillPicker("scatter-x", rowOptions, String(rival < 0 ? reference : rival), drawPair);
fillPicker("scatter-y", rowOptions, String(reference), drawPair);
if (rival < 0) byId("pairs").hidden = true;
if (!data.embedded.length) byId("gallery-order").closest(".controls").hidden = true;
byId("gallery-order").addEventListener("change", drawGallery);
byId("gallery-more").addEventListener("click", () => { shownImages += AT_ONCE; drawGallery(); });
drawBoxes();
if (rival >= 0) drawScatter();
drawGallery();

let width = window.innerWidth;
window.addEventListener("resize", () => {
  // A phone's address bar that appears or disappears changes only the height.
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  drawBoxes();
  if (rival >= 0) drawScatter();
});
