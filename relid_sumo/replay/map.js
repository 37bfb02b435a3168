// One map: streets and names on a canvas that is drawn again when the view comes to rest, vehicles on another in each frame.
// Leaflet moves and zooms the view, by mouse, touch and keyboard.

const MARGIN = 0.25, TAIL_S = 60, VEHICLE_M = 5, LANE_M = 3.2, MAIN_MPS = 15, NAMED_AGENTS = 12;
const JUNCTIONS_FROM = 0.3;  // pixels per metre at which junctions are larger than the lines of streets

class MapView {
  constructor(app, parent, episodes) {
    this.app = app;
    this.episodes = episodes;
    this.element = parent.appendChild(make("div", { className: "view" }));
    this.streets = this.element.appendChild(make("canvas", { ariaHidden: "true" }));
    const holder = this.element.appendChild(make("div"));
    this.badge = this.element.appendChild(make("div", { className: "badge" }));
    this.map = L.map(holder, {
      crs: L.CRS.Simple, zoomSnap: 0.25, zoomDelta: 0.5, minZoom: -7, maxZoom: 4, wheelPxPerZoomLevel: 120,
      zoomAnimation: false, fadeAnimation: false, attributionControl: false, boxZoom: false,
    });
    L.control.attribution({ prefix: false }).addAttribution(escaped(app.said.attribution)).addTo(this.map);
    L.control.scale({ imperial: false }).addTo(this.map);
    holder.setAttribute("aria-label", `Map: ${episodes.map((one) => one.name).join(" and ")}`);
    holder.setAttribute("role", "application");
    this.vehicles = this.element.appendChild(make("canvas", { className: "above", ariaHidden: "true" }));
    this.map.on("move resize", () => app.moved(this));
    this.map.on("click", (event) => this.pick(event));
    this.last = "";
    this.drawn = null;
    this.#drawBadge();
  }

  // The view: pixels per metre, and the pixel of the point (0, 0).
  view() {
    const corner = this.map.containerPointToLatLng([0, 0]), scale = this.map.getZoomScale(this.map.getZoom(), 0);
    const size = this.map.getSize();
    return { scale, x: -corner.lng * scale, y: corner.lat * scale, width: size.x, height: size.y };
  }

  show(box) {
    const top = this.badge.offsetHeight + 20;
    this.map.fitBounds([[box[1], box[0]], [box[3], box[2]]],
      { animate: false, paddingTopLeft: [14, top], paddingBottomRight: [14, 24] });
  }

  // Draw one frame; return whether another is needed for the view to come to rest.
  draw() {
    const view = this.view(), told = Object.values(view).join();
    const rests = told === this.last;
    this.last = told;
    if (!this.drawn || (rests ? told !== this.drawn.told : this.#uncovered(view))) this.#drawStreets(view, told);
    const before = this.drawn, ratio = view.scale / before.scale;
    this.streets.style.transform =
      `translate(${view.x - ratio * before.x}px, ${view.y - ratio * before.y}px) scale(${ratio})`;
    this.#drawVehicles(view);
    return !rests;
  }

  #uncovered(view) {
    const before = this.drawn, ratio = view.scale / before.scale;
    const [left, top] = [view.x - ratio * before.x, view.y - ratio * before.y];
    return ratio > 2 || ratio < 0.6 || left > 0 || top > 0 ||
      left + ratio * before.width < view.width || top + ratio * before.height < view.height;
  }

  #drawStreets(view, told) {
    const [extraX, extraY] = [Math.round(view.width * MARGIN), Math.round(view.height * MARGIN)];
    const wide = { scale: view.scale, x: view.x + extraX, y: view.y + extraY,
      width: view.width + 2 * extraX, height: view.height + 2 * extraY };
    const paint = prepared(this.streets, wide.width, wide.height), { streets, colours } = this.app;
    const shown = [];
    for (let edge = 0; edge < streets.count; edge++) {
      const at = 4 * edge;
      const [west, east] = [streets.box[at] * wide.scale + wide.x, streets.box[at + 2] * wide.scale + wide.x];
      const [north, south] = [wide.y - streets.box[at + 3] * wide.scale, wide.y - streets.box[at + 1] * wide.scale];
      if (east > -20 && west < wide.width + 20 && south > -20 && north < wide.height + 20) shown.push(edge);
    }
    const width = (edge) => {
      const real = LANE_M * streets.lanes[edge] * wide.scale;
      return Math.max(real, streets.speed[edge] > MAIN_MPS ? 2.6 : 1.6);
    };
    const isMain = (edge) => streets.speed[edge] > MAIN_MPS;
    const main = shown.filter(isMain), other = shown.filter((edge) => !isMain(edge));
    paint.lineCap = paint.lineJoin = "round";
    if (wide.scale > JUNCTIONS_FROM) this.#drawJunctions(paint, wide, new Set(shown));
    for (const [edges, colour, extra] of [[other, colours.roadEdge, 1.6], [main, colours.roadEdge, 1.6],
      [other, colours.road, 0], [main, colours.roadMain, 0]]) {
      paint.strokeStyle = colour;
      for (const [wideness, same] of grouped(edges, width)) {
        paint.lineWidth = wideness + extra;
        paint.beginPath();
        for (const edge of same) trace(paint, streets.shapes[edge], wide);
        paint.stroke();
      }
    }
    this.#drawNames(paint, wide, shown);
    this.drawn = { ...wide, told, x: wide.x, y: wide.y };
  }

  // Each turn as a line from the end of an edge to the start of the next, so that the streets meet.
  #drawJunctions(paint, view, shown) {
    const { streets, colours } = this.app;
    for (const [colour, extra] of [[colours.roadEdge, 1.6], [colours.road, 0], [colours.roadMain, 0]]) {
      paint.strokeStyle = colour;
      paint.lineWidth = LANE_M * view.scale + extra;
      paint.beginPath();
      for (let i = 0; i < streets.turns.length; i += 2) {
        const [from, to] = [streets.turns[i], streets.turns[i + 1]];
        if (!shown.has(from) && !shown.has(to)) continue;
        if (colour === colours.roadMain && Math.min(streets.speed[from], streets.speed[to]) <= MAIN_MPS) continue;
        const shape = streets.shapes[from], next = streets.shapes[to], n = shape.length;
        paint.moveTo(shape[n - 2] * view.scale + view.x, view.y - shape[n - 1] * view.scale);
        paint.lineTo(next[0] * view.scale + view.x, view.y - next[1] * view.scale);
      }
      paint.stroke();
    }
  }

  // Names of streets on their longest edges, the longest first, where there is room.
  #drawNames(paint, view, shown) {
    const { streets, colours } = this.app, taken = [];
    const named = shown.filter((edge) => streets.street[edge] && streets.metres[edge] * view.scale > 34);
    named.sort((one, other) => streets.metres[other] * streets.speed[other] - streets.metres[one] * streets.speed[one]);
    paint.font = "600 11px system-ui, 'DejaVu Sans', sans-serif";
    paint.textAlign = "center";
    paint.textBaseline = "middle";
    paint.lineWidth = 3;
    paint.strokeStyle = colours.halo;
    paint.fillStyle = colours.name;
    for (const edge of named.slice(0, 600)) {
      const name = streets.names[streets.street[edge]], [x, y, angle] = middle(streets.shapes[edge], streets.metres[edge]);
      const [px, py] = [x * view.scale + view.x, view.y - y * view.scale];
      const half = paint.measureText(name).width / 2;
      const room = [px - half, py - half, px + half, py + half];
      const clash = taken.some((other) => (other.name === name && Math.hypot(other.px - px, other.py - py) < 320) ||
        (Math.abs(other.px - px) < other.half + half && Math.abs(other.py - py) < Math.max(16, Math.min(other.steep * other.half + 8, 60))));
      if (clash || half > streets.metres[edge] * view.scale * 1.1 || room[2] < 0 || room[0] > view.width) continue;
      taken.push({ name, px, py, half, steep: Math.abs(Math.sin(angle)) });
      paint.save();
      paint.translate(px, py);
      paint.rotate(Math.abs(angle) > Math.PI / 2 ? Math.PI - angle : -angle);
      paint.strokeText(name, 0, 0);
      paint.fillText(name, 0, 0);
      paint.restore();
    }
  }

  #drawVehicles(view) {
    const { app } = this, paint = prepared(this.vehicles, view.width, view.height);
    this.#drawEvents(paint, view);
    this.episodes.forEach((episode) => this.#drawSelected(paint, view, episode));
    this.#drawOthers(paint, view, this.episodes[0]);
    for (let i = this.episodes.length - 1; i >= 0; i--) this.#drawAgents(paint, view, this.episodes[i], i > 0);
    this.#drawBadge();
  }

  #drawBadge() {
    const { app } = this;
    const mine = this.episodes.map((episode) => {
      const [running, arrived] = [episode.running(app.time), episode.arrived(app.time)];
      return `<b>${escaped(episode.name)}</b> <span>${arrived} of ${app.said.agents.length} arrived<span class="rest">, ${running} vehicles</span></span>`;
    });
    const text = mine.join("<br>");
    if (text !== this.text) this.badge.innerHTML = this.text = text;
  }

  #drawOthers(paint, view, episode) {
    const { app } = this, count = episode.first.length, near = view.scale > 1.2, slow = STANDS_KMH / 3.6;
    const side = Math.max(2.5, Math.min(4, 2 + view.scale * 2)), standing = [];
    paint.fillStyle = app.colours.vehicle;
    for (let track = 0; track < count; track++) {
      if (episode.agent[track] >= 0) continue;
      const place = episode.at(track, app.time);
      if (!place) continue;
      const x = place[0] * view.scale + view.x, y = view.y - place[1] * view.scale;
      if (x < -20 || y < -20 || x > view.width + 20 || y > view.height + 20) continue;
      if (place[3] < slow) standing.push(x, y, place[2]);
      else body(paint, x, y, place[2], near, side, view.scale);
    }
    paint.fillStyle = app.colours.stands;
    for (let i = 0; i < standing.length; i += 3) body(paint, standing[i], standing[i + 1], standing[i + 2], near, side, view.scale);
    if (app.track !== null && this.episodes.includes(app.episode)) {
      const place = app.episode.at(app.track, app.time);
      if (place) ring(paint, place[0] * view.scale + view.x, view.y - place[1] * view.scale, 9, app.colours.accent);
    }
  }

  #drawAgents(paint, view, episode, hollow) {
    const { app } = this, { agents } = app.said, marked = agents.length <= 50;
    const under = [];
    for (let agent = 0; agent < agents.length; agent++) {
      const place = episode.agentAt(agent, app.time);
      if (!place) continue;
      const [x, y] = [place[0] * view.scale + view.x, view.y - place[1] * view.scale];
      under.push({ agent, x, y, colour: app.colourOf(agent) });
    }
    under.sort((one, other) => (one.agent === app.agent) - (other.agent === app.agent));  // the selected one is on top
    for (const one of under) {
      this.#tail(paint, view, episode, one);
      if (marked || one.agent === app.agent) {
        const shape = app.streets.shapes[agents[one.agent].destination], n = shape.length;
        const [x, y] = [shape[n - 2] * view.scale + view.x, view.y - shape[n - 1] * view.scale];
        square(paint, x, y, one.agent === app.agent ? 8 : 5, one.colour, app.colours.outline);
      }
    }
    const radius = agents.length <= 50 ? 6.5 : 4.5;
    paint.font = "600 12px system-ui, 'DejaVu Sans', sans-serif";
    paint.textAlign = "left";
    paint.textBaseline = "middle";
    const named = [];
    for (const one of under) {
      const chosen = one.agent === app.agent;
      disc(paint, one.x, one.y, chosen ? radius + 3 : radius, one.colour, hollow, app.colours.outline);
      if (chosen) named.unshift(one);
      else if (agents.length <= NAMED_AGENTS && !hollow) named.push(one);
    }
    const placed = [];
    for (const one of named) {
      const width = paint.measureText(agents[one.agent].name).width + 6, { y } = one;
      const x = one.x + radius + 6 + width > view.width ? one.x - radius - width : one.x + radius + 6;
      const clash = placed.some((other) => Math.abs(other.y - y) < 14 && x < other.x + other.width && other.x < x + width);
      if (clash || x < -width || x > view.width) continue;
      placed.push({ x, y, width });
      halo(paint, agents[one.agent].name, x, y, app.colours.ink, app.colours.halo);
    }
  }

  #tail(paint, view, episode, { agent, colour }) {
    paint.globalAlpha = 0.45;
    this.#path(paint, view, episode, agent, this.app.time - TAIL_S, this.app.time, { colour, width: 3 });
    paint.globalAlpha = 1;
  }

  // The positions of an agent between two times as a line.
  #path(paint, view, episode, agent, begin, end, { colour, width, dash = [] }) {
    paint.strokeStyle = colour;
    paint.lineWidth = width;
    paint.lineJoin = paint.lineCap = "round";
    paint.setLineDash(dash);
    paint.beginPath();
    for (const track of episode.tracksOf[agent]) {
      const first = episode.first[track], from = Math.max(0, Math.ceil(begin / episode.frame - first));
      const to = Math.min(episode.length[track] - 1, Math.floor(end / episode.frame - first));
      for (let k = from; k <= to; k++) {
        const i = episode.start[track] + k, q = episode.quantum * view.scale;
        const [x, y] = [episode.x[i] * q + view.x, view.y - episode.y[i] * q];
        if (k === from) paint.moveTo(x, y); else paint.lineTo(x, y);
      }
    }
    paint.stroke();
    paint.setLineDash([]);
  }

  // The selected agent: its route so far, the rest of it, and the candidates of its last decision.
  #drawSelected(paint, view, episode) {
    const { app } = this, { agent } = app;
    if (agent === null) return;
    const colour = app.colourOf(agent);
    paint.globalAlpha = 0.55;
    this.#path(paint, view, episode, agent, 0, app.time, { colour, width: 7 });
    paint.globalAlpha = 0.9;
    this.#path(paint, view, episode, agent, app.time, Infinity, { colour, width: 2, dash: [3, 6] });
    paint.globalAlpha = 1;
    const k = episode.decided(agent, app.time);
    if (k < 0 || !episode.agentAt(agent, app.time)) return;
    const decision = episode.decisions[agent][k], reach = Math.max(40, 110 / view.scale);
    paint.font = "600 12px system-ui, 'DejaVu Sans', sans-serif";
    paint.textAlign = "center";
    decision.edges.forEach((edge, i) => {
      const share = decision.shares ? decision.shares[i] : Number(i === decision.chosen);
      const end = trace(paint, app.streets.shapes[edge], view, reach, () => {
        paint.strokeStyle = i === decision.chosen ? app.colours.accent : app.colours.ink;
        paint.lineWidth = 2 + 10 * share;
        paint.lineCap = "butt";
        paint.globalAlpha = 0.75;
      });
      paint.globalAlpha = 1;
      if (decision.shares && end) halo(paint, percent(share), end[0], end[1], app.colours.ink, app.colours.halo);
    });
  }

  #drawEvents(paint, view) {
    const { app } = this;
    paint.font = "600 12px system-ui, 'DejaVu Sans', sans-serif";
    paint.textAlign = "left";
    paint.textBaseline = "middle";
    for (const event of app.said.events) {
      if (app.time < event.begin || app.time >= event.end) continue;
      paint.strokeStyle = app.colours.event;
      paint.lineCap = "round";
      for (const edge of event.edges) {
        paint.lineWidth = Math.max(6, 4 * view.scale);
        paint.beginPath();
        trace(paint, app.streets.shapes[edge], view);
        paint.stroke();
      }
      const [x, y] = middle(app.streets.shapes[event.edges[0]], app.streets.metres[event.edges[0]]);
      const left = x * view.scale + view.x, width = paint.measureText(event.short).width + 10;
      halo(paint, event.short, left + width > view.width ? Math.max(4, left - width) : left + 10, view.y - y * view.scale - 10,
        app.colours.event, app.colours.halo);
    }
  }

  // Select the vehicle at a place: an agent if one is near, else any vehicle.
  pick(event) {
    const { app } = this, view = this.view(), at = event.containerPoint;
    const coarse = window.matchMedia("(pointer: coarse)").matches ? 1.8 : 1;
    let best = null, least = 1;
    for (const episode of this.episodes) {
      for (let track = 0; track < episode.first.length; track++) {
        const agent = episode.agent[track];
        if (agent < 0 && episode !== this.episodes[0]) continue;
        const place = episode.at(track, app.time);
        if (!place) continue;
        const away = Math.hypot(place[0] * view.scale + view.x - at.x, view.y - place[1] * view.scale - at.y);
        const nearness = away / (coarse * (agent >= 0 ? 20 : 11));
        if (nearness < least) [best, least] = [{ episode, track, agent }, nearness];
      }
    }
    if (!best) app.select(null);
    else if (best.agent >= 0) app.select(best.agent, best.episode);
    else app.selectOther(best.track, best.episode);
  }
}

function prepared(canvas, width, height) {
  const dense = Math.min(2, window.devicePixelRatio || 1);
  const [w, h] = [Math.round(width * dense), Math.round(height * dense)];
  if (canvas.width !== w || canvas.height !== h) {
    [canvas.width, canvas.height] = [w, h];
    [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  }
  const paint = canvas.getContext("2d");
  paint.setTransform(dense, 0, 0, dense, 0, 0);
  paint.clearRect(0, 0, width, height);
  return paint;
}

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (groups.has(name)) groups.get(name).push(item); else groups.set(name, [item]);
  }
  return groups;
}

// Add a line to the path. With `style`, draw it up to `reach` metres and return the pixel of its label.
function trace(paint, shape, view, reach = Infinity, style = null) {
  if (style) paint.beginPath();
  let done = 0, end = null;
  for (let i = 0; i < shape.length; i += 2) {
    let [x, y] = [shape[i], shape[i + 1]];
    if (i) {
      const step = Math.hypot(x - shape[i - 2], y - shape[i - 1]);
      if (done + step > reach) {
        const part = (reach - done) / step;
        [x, y] = [shape[i - 2] + part * (x - shape[i - 2]), shape[i - 1] + part * (y - shape[i - 1])];
      }
      done += step;
    }
    end = [x * view.scale + view.x, view.y - y * view.scale];
    if (i) paint.lineTo(...end); else paint.moveTo(...end);
    if (done > reach) break;
  }
  if (style) {
    style();
    paint.stroke();
  }
  return end;
}

// The point half along a line, and the direction there.
function middle(shape, metres) {
  let left = metres / 2;
  for (let i = 2; i < shape.length; i += 2) {
    const [dx, dy] = [shape[i] - shape[i - 2], shape[i + 1] - shape[i - 1]], step = Math.hypot(dx, dy);
    if (step >= left || i + 2 >= shape.length) {
      const part = step ? Math.min(1, left / step) : 0;
      return [shape[i - 2] + part * dx, shape[i - 1] + part * dy, Math.atan2(dy, dx)];
    }
    left -= step;
  }
  return [shape[0], shape[1], 0];
}

function body(paint, x, y, heading, near, side, scale) {
  if (!near) {
    paint.fillRect(x - side / 2, y - side / 2, side, side);
    return;
  }
  const transform = paint.getTransform();
  paint.translate(x, y);
  paint.rotate(-heading);
  paint.fillRect(-VEHICLE_M * scale, -scale, VEHICLE_M * scale, 2 * scale);
  paint.setTransform(transform);
}

function disc(paint, x, y, radius, colour, hollow, outline) {
  paint.beginPath();
  paint.arc(x, y, radius, 0, 2 * Math.PI);
  paint.lineWidth = hollow ? 7 : 4;
  paint.strokeStyle = outline;
  paint.stroke();
  paint.lineWidth = 3.5;
  paint.strokeStyle = paint.fillStyle = colour;
  if (hollow) paint.stroke(); else paint.fill();
}

function ring(paint, x, y, radius, colour) {
  paint.beginPath();
  paint.arc(x, y, radius, 0, 2 * Math.PI);
  paint.lineWidth = 3;
  paint.strokeStyle = colour;
  paint.stroke();
}

function square(paint, x, y, half, colour, outline) {
  for (const [line, width] of [[outline, 6], [colour, 3]]) {
    paint.lineWidth = width;
    paint.strokeStyle = line;
    paint.strokeRect(x - half, y - half, 2 * half, 2 * half);
  }
}

function halo(paint, text, x, y, colour, around) {
  paint.lineWidth = 4;
  paint.lineJoin = "round";
  paint.strokeStyle = around;
  paint.strokeText(text, x, y);
  paint.fillStyle = colour;
  paint.fillText(text, x, y);
}
