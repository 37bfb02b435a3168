"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

function svg(name, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

function html(name, attributes, parent, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// --- tables: a click on a heading sorts; a second click reverses the order ----------------------------------------------

function sortable(table) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value === undefined) return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  table.querySelectorAll("thead th").forEach((heading, column) => {
    for (const row of body.rows) row.cells[column].dataset.label = heading.textContent.trim(); // shown on phones
    if (body.rows[0] && body.rows[0].cells[column].classList.contains("number")) heading.classList.add("right");
    heading.querySelector("button").addEventListener("click", () => {
      const falling = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const order = (a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (x === null || y === null) return (x === null) - (y === null); // unknown values come last
        const up = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
        return falling ? -up : up;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}

// --- charts: lines with bands, drawn at the available width -------------------------------------------------------------

function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return { found, label: (v) => v.toFixed(digits).replace("-", "\u2212") };
}

function span(numbers) {
  const real = numbers.filter(Number.isFinite);
  const low = real.reduce((a, b) => Math.min(a, b), Infinity), high = real.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!real.length) return [0, 1];
  const pad = high > low ? (high - low) * 0.04 : Math.abs(high) * 0.05 || 1;
  return [low - pad, high + pad];
}

const DASHES = ["6 4", "2 3", "9 3 2 3", "12 4"];

function drawChart(figure) {
  const chart = data.charts[figure.dataset.chart], plot = figure.querySelector(".plot");
  const hidden = new Set(chart.series.flatMap((series, i) => (series.hidden ? [i] : []))), legend = figure.querySelector(".legend");
  chart.series.forEach((series, i) => {
    const button = html("button", { type: "button", "aria-pressed": String(!hidden.has(i)) }, legend);
    const mark = svg("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, button);
    const dash = series.dashed ? DASHES[i % DASHES.length] : "none";
    svg("line", { x1: 0, x2: 24, y1: 4, y2: 4, stroke: series.colour, "stroke-width": 3, "stroke-dasharray": dash }, mark);
    button.append(series.name);
    button.addEventListener("click", () => {
      if (!hidden.delete(i)) hidden.add(i);
      button.setAttribute("aria-pressed", String(!hidden.has(i)));
      draw();
    });
  });

  function draw() {
    const width = Math.max(plot.clientWidth, 240), height = Math.round(Math.min(300, Math.max(200, width * 0.6)));
    const shown = chart.series.filter((_, i) => !hidden.has(i));
    const [x0, x1] = span(shown.flatMap((s) => s.x));
    const [y0, y1] = span(shown.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])]));
    const yTicks = ticks(y0, y1, 5), xTicks = ticks(x0, x1, Math.max(5, width / 90));
    const labels = yTicks.found.map(yTicks.label);
    const left = 14 + 7.2 * Math.max(...labels.map((l) => l.length), 2), right = 12, top = 22, bottom = 40;
    const px = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
    const py = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": chart.title });
    yTicks.found.forEach((v, i) => {
      svg("line", { class: "grid", x1: left, x2: width - right, y1: py(v), y2: py(v) }, picture);
      svg("text", { x: left - 6, y: py(v) + 4, "text-anchor": "end" }, picture).textContent = labels[i];
    });
    xTicks.found.forEach((v) => {
      svg("text", { x: px(v), y: height - bottom + 16, "text-anchor": "middle" }, picture).textContent = xTicks.label(v);
    });
    svg("text", { x: 0, y: 12 }, picture).textContent = chart.yLabel;
    svg("text", { x: width - right, y: height - 6, "text-anchor": "end" }, picture).textContent = chart.xLabel;
    chart.marks.forEach(([x, said], i) => { // the label stays inside the plot
      if (x < x0 || x > x1) return;
      const end = px(x) > width / 2;
      svg("line", { class: "mark", x1: px(x), x2: px(x), y1: top, y2: height - bottom }, picture);
      svg("text", { x: px(x) + (end ? -5 : 5), y: top - 4 + 14 * i, "text-anchor": end ? "end" : "start" }, picture).textContent = said;
    });
    for (const s of shown) {
      if (!s.low) continue;
      const over = s.x.map((x, i) => `${px(x).toFixed(1)},${py(s.high[i]).toFixed(1)}`);
      const under = s.x.map((x, i) => `${px(x).toFixed(1)},${py(s.low[i]).toFixed(1)}`).reverse();
      svg("polygon", { class: "lift", points: [...over, ...under].join(" "), fill: s.colour, opacity: 0.15 }, picture);
    }
    for (const s of shown) {
      const points = s.x.map((x, i) => `${px(x).toFixed(1)},${py(s.y[i]).toFixed(1)}`).join(" ");
      const dash = s.dashed ? DASHES[chart.series.indexOf(s) % DASHES.length] : "none";
      svg("polyline", { class: "lift", points, fill: "none", stroke: s.colour, "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": dash }, picture);
      if (s.x.length === 1) svg("circle", { class: "lift", cx: px(s.x[0]), cy: py(s.y[0]), r: 3.5, fill: s.colour }, picture);
    }
    plot.replaceChildren(picture);
    pointer(picture, shown, { px, py, left, right, top, bottom, width, height, x0, x1 });
  }

  function pointer(picture, shown, at) {
    const cross = svg("line", { class: "cross", y1: at.top, y2: at.height - at.bottom, visibility: "hidden" }, picture);
    const tip = html("div", { class: "tip", hidden: "" }, plot);
    const digits = (v) => (Math.abs(v) >= 100 ? v.toFixed(0) : Math.abs(v) >= 1 ? v.toFixed(1) : v.toFixed(2));
    picture.addEventListener("pointermove", (event) => {
      const x = at.x0 + ((event.offsetX - at.left) / (at.width - at.left - at.right)) * (at.x1 - at.x0);
      const nearest = (s) => s.x.reduce((best, v, i) => (Math.abs(v - x) < Math.abs(s.x[best] - x) ? i : best), 0);
      if (!shown.length) return;
      const where = shown[0].x[nearest(shown[0])];
      cross.setAttribute("x1", at.px(where)), cross.setAttribute("x2", at.px(where));
      cross.setAttribute("visibility", "visible");
      tip.replaceChildren(html("div", {}, null, `${chart.xLabel} ${digits(where)}`));
      for (const s of shown) {
        const i = nearest(s), row = html("div", {}, tip);
        html("span", { class: "swatch" }, row).style.background = s.colour;
        row.append(`${s.name} ${digits(s.y[i])}${s.low ? ` [${digits(s.low[i])}, ${digits(s.high[i])}]` : ""}`);
      }
      tip.hidden = false;
      const over = at.px(where) > at.width / 2;
      tip.style.left = over ? "auto" : `${at.px(where) + 10}px`;
      tip.style.right = over ? `${at.width - at.px(where) + 10}px` : "auto";
    });
    picture.addEventListener("pointerleave", () => {
      tip.hidden = true;
      cross.setAttribute("visibility", "hidden");
    });
  }
  new ResizeObserver(draw).observe(plot);
}

// --- maps: the network, and each policy's route of one agent ------------------------------------------------------------

const INCIDENT = "#d00000";
const ROADS = [1, 1.4, 2, 2.4, 2.8]; // widths by speed class

function drawMap(box) {
  const city = data.maps[box.dataset.map], picture = box.querySelector("svg"), select = box.querySelector(".agent");
  const xs = city.roads.flatMap((r) => r.filter((_, i) => i % 2 === 0)), ys = city.roads.flatMap((r) => r.filter((_, i) => i % 2));
  const [x0, x1] = span(xs), [y0, y1] = span(ys);
  const line = (edge) => city.roads[edge].reduce((d, v, i, all) => (i % 2 ? d : `${d}${d ? "L" : ""}${v} ${y1 - all[i + 1]}`), "");
  const layerGroup = svg("g", {}), still = { "vector-effect": "non-scaling-stroke", fill: "none", "stroke-linecap": "round", "stroke-linejoin": "round" };
  ROADS.forEach((width, speed) => {
    const d = city.roads.map((_, edge) => (city.speed[edge] === speed ? `M${line(edge)}` : "")).join("");
    if (d) svg("path", { ...still, d, style: `stroke: var(--road-${speed})`, "stroke-width": width }, picture);
  });
  city.incidents.forEach((edge) => svg("path", { ...still, d: `M${line(edge)}`, stroke: INCIDENT, "stroke-width": 7, "stroke-opacity": .55, class: "incident" }, picture));
  picture.append(layerGroup);
  let view = { x: x0, y: 0, width: x1 - x0, height: y1 - y0 };
  const whole = { ...view };

  function place() {
    picture.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    drawEnds();
  }

  function pan(dx, dy) {
    view = { ...view, x: view.x + dx, y: view.y + dy };
    place();
  }

  function zoom(factor, x = view.x + view.width / 2, y = view.y + view.height / 2) {
    const width = Math.min(Math.max(view.width * factor, whole.width / 60), whole.width * 3), f = width / view.width;
    view = { x: x - (x - view.x) * f, y: y - (y - view.y) * f, width, height: view.height * f };
    place();
  }

  const perPixel = () => Math.max(view.width / picture.clientWidth, view.height / picture.clientHeight);

  // layers
  const list = box.querySelector(".layers"), off = new Set();
  const firstSeed = {};
  city.layers.forEach((layer, i) => {
    if (layer.seed !== null && layer.policy in firstSeed) off.add(i); // initially only the first of several seeds
    else firstSeed[layer.policy] = i;
  });
  const times = city.layers.map((layer, i) => {
    const label = html("label", {}, list), tick = html("input", { type: "checkbox" }, label);
    tick.checked = !off.has(i);
    tick.addEventListener("change", () => {
      tick.checked ? off.delete(i) : off.add(i);
      drawRoutes();
    });
    html("span", { class: "swatch" }, label).style.background = layer.colour;
    label.append(layer.policy + (layer.seed === null ? "" : `, seed ${layer.seed}`));
    return html("span", { class: "time" }, label);
  });
  const vias = [...list.querySelectorAll("label")].map((label) => {
    const via = html("div", { class: "via" });
    label.after(via);
    return via;
  });

  // streets: the longest of a route in words, and labels on the map
  const streetOf = (edge) => (city.street.length && city.street[edge] >= 0 ? city.streets[city.street[edge]] : null);
  const metres = (edge) => city.roads[edge].reduce((sum, v, i, all) => (i % 2 || i < 2 ? sum : sum + Math.hypot(v - all[i - 2], all[i + 1] - all[i - 1])), 0);

  function along(route) {
    const found = new Map();
    for (const edge of route) if (streetOf(edge)) found.set(streetOf(edge), (found.get(streetOf(edge)) || 0) + metres(edge));
    const longest = new Set([...found].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([name]) => name));
    const names = [...found.keys()].filter((name) => longest.has(name));
    return names.length ? `along ${names.join(", ")}` : "";
  }

  function drawLabels() {
    const agent = Number(select.value), best = new Map();
    city.layers.forEach((layer, i) => {
      for (const edge of off.has(i) ? [] : layer.routes[agent]) {
        const name = streetOf(edge);
        if (name && (!best.has(name) || metres(edge) > metres(best.get(name)))) best.set(name, edge);
      }
    });
    labels.replaceChildren();
    const size = 11 * perPixel(), taken = [];
    for (const [name, edge] of [...best].sort((a, b) => metres(b[1]) - metres(a[1]))) {
      const road = city.roads[edge], m = 2 * Math.floor((road.length / 2 - 1) / 2), [x, y] = [(road[m] + road[m + 2]) / 2, y1 - (road[m + 1] + road[m + 3]) / 2];
      const box = [x - name.length * size * 0.3, y - size, x + name.length * size * 0.3, y + size * 0.4];
      if (taken.some((t) => t[0] < box[2] && t[2] > box[0] && t[1] < box[3] && t[3] > box[1])) continue;
      taken.push(box);
      svg("text", { class: "street", x, y, "font-size": size, "stroke-width": size / 3, "text-anchor": "middle" }, labels).textContent = name;
    }
  }

  function drawRoutes() {
    const agent = Number(select.value), shown = city.layers.map((_, i) => i).filter((i) => !off.has(i));
    layerGroup.replaceChildren();
    shown.forEach((i, rank) => { // wider lines below, so that routes on the same edge are all visible
      const layer = city.layers[i], d = layer.routes[agent].map((edge, n) => `${n ? "L" : "M"}${line(edge)}`).join("");
      if (d) svg("path", { ...still, d, stroke: layer.colour, "stroke-width": 3 + 3 * (shown.length - 1 - rank), class: "route lift", "data-layer": i }, layerGroup);
    });
    city.layers.forEach((layer, i) => {
      times[i].textContent = layer.arrived[agent] ? `${layer.times[agent].toFixed(0)} s` : "did not arrive";
      vias[i].textContent = off.has(i) ? "" : along(layer.routes[agent]);
    });
    drawEnds();
  }

  const labels = svg("g", { "aria-hidden": "true" }, picture), ends = svg("g", {}, picture);
  function drawEnds() {
    const agent = Number(select.value), size = 7 * perPixel();
    const from = city.roads[city.origin[agent]], to = city.roads[city.destination[agent]];
    const style = { fill: "#fff", stroke: "#22272e", "stroke-width": 2.5, "vector-effect": "non-scaling-stroke" };
    ends.replaceChildren();
    drawLabels();
    svg("circle", { ...style, cx: from[0], cy: y1 - from[1], r: size }, ends);
    svg("rect", { ...style, x: to.at(-2) - size, y: y1 - to.at(-1) - size, width: 2 * size, height: 2 * size }, ends);
  }

  // pointer and keyboard
  let dragged = null;
  picture.addEventListener("pointerdown", (event) => {
    dragged = [event.clientX, event.clientY];
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    pan((dragged[0] - event.clientX) * perPixel(), (dragged[1] - event.clientY) * perPixel());
    dragged = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => (dragged = null));
  picture.addEventListener("wheel", (event) => {
    if (document.activeElement !== picture) return;
    event.preventDefault();
    const where = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    zoom(event.deltaY > 0 ? 1.25 : 0.8, where.x, where.y);
  }, { passive: false });
  picture.addEventListener("keydown", (event) => {
    const step = view.width / 8, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) pan(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(0.8);
    else if (event.key === "-") zoom(1.25);
    else return;
    event.preventDefault();
  });
  box.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => {
    if (button.dataset.zoom === "all") view = { ...whole }, place();
    else zoom(button.dataset.zoom === "in" ? 0.7 : 1.4);
  }));
  select.addEventListener("change", drawRoutes);
  place();
  drawRoutes();
  new ResizeObserver(drawEnds).observe(picture);
}

document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll("[data-chart]").forEach(drawChart);
document.querySelectorAll("[data-map]").forEach(drawMap);
// A link to a run opens that run's details.
const open = () => {
  const there = location.hash && document.getElementById(location.hash.slice(1));
  if (there instanceof HTMLDetailsElement) there.open = true;
};
addEventListener("hashchange", open);
open();
