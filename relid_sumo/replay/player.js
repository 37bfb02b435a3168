// The clock, the controls and the keys.

const JUMP_S = 10, NARROW = 600;

const $ = (id) => document.getElementById(id);
const clock = (seconds) => `${Math.floor(Math.max(0, seconds) / 60)}:${String(Math.floor(Math.max(0, seconds) % 60)).padStart(2, "0")}`;
const percent = (share) => (share > 0 && share < 0.005 ? "<1 %" : `${Math.round(100 * share)} %`);
const signed = (seconds) => `${seconds > 0 ? "+" : seconds < 0 ? "\u2212" : ""}${Math.round(Math.abs(seconds))} s`;
const escaped = (text) => make("i", { textContent: text }).innerHTML;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (properties.style) element.style.cssText = properties.style;
  element.append(...children);
  return element;
}

class App {
  constructor(said, streets, episodes) {
    Object.assign(this, { said, streets, episodes, episode: episodes[0], agent: null, track: null, follow: false });
    this.end = Math.max(...episodes.map((one) => one.end));
    [this.playing, this.speed, this.waiting, this.views] = [false, 10, false, []];
    this.overlay = episodes.length > 1 && window.innerWidth < NARROW;
    this.time = Math.min(this.end, Math.min(...said.agents.map((one) => one.depart)));
    this.panel = new Panel(this, $("panel"));
    this.readColours();
    this.arrange();
  }

  colourOf(agent) { return this.said.colours[agent % this.said.colours.length]; }

  readColours() {
    const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = { roadEdge: colour("road-edge"), roadMain: colour("road-main") };
    for (const name of ["ink", "line", "road", "name", "halo", "outline", "vehicle", "stands", "event", "accent"]) this.colours[name] = colour(name);
    this.views.forEach((view) => { view.drawn = null; });
    this.strip = null;
    this.invalidate();
  }

  // Lay out the maps: one for each episode side by side, or one for all.
  arrange() {
    this.views.forEach((view) => { view.map.remove(); view.element.remove(); });
    const shown = this.overlay ? [this.episodes] : this.episodes.map((one) => [one]);
    $("maps").classList.toggle("two", shown.length > 1);
    this.views = shown.map((episodes) => new MapView(this, $("maps"), episodes));
    $("layout").hidden = this.episodes.length < 2;
    $("layout").textContent = this.overlay ? "Side by side" : "Overlay";
    this.showAll();
    this.bring();
  }

  // The area of the agents' trips.
  showAll() {
    const box = [Infinity, Infinity, -Infinity, -Infinity], { streets } = this;
    const widen = (edge) => [0, 1, 2, 3].forEach((side) => {
      box[side] = (side < 2 ? Math.min : Math.max)(box[side], streets.box[4 * edge + side]);
    });
    this.said.agents.forEach((one) => { widen(one.origin); widen(one.destination); });
    for (const episode of this.episodes) {
      episode.tracksOf.flat().forEach((track) => {
        for (let i = episode.start[track]; i < episode.start[track + 1]; i += 10) {
          const [x, y] = [episode.x[i] * episode.quantum, episode.y[i] * episode.quantum];
          [box[0], box[1], box[2], box[3]] = [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y)];
        }
      });
    }
    this.views[0].show(box);
    this.moved(this.views[0]);
  }

  whole() {
    this.setFollow(false);
    this.showAll();
  }

  // A map was moved: the others show the same place.
  moved(view) {
    if (this.moving) return;
    this.moving = true;
    for (const other of this.views) {
      if (other !== view && view.map._loaded) other.map.setView(view.map.getCenter(), view.map.getZoom(), { animate: false });
    }
    this.moving = false;
    this.invalidate();
  }

  select(agent, episode = this.episode) {
    [this.agent, this.track, this.episode, this.strip] = [agent, null, episode, null];
    if (agent === null) this.follow = false;
    this.invalidate();
  }

  selectOther(track, episode) {
    [this.agent, this.track, this.episode, this.follow, this.strip] = [null, track, episode, false, null];
    this.invalidate();
  }

  // Select an agent and bring it into view, at its departure if it does not drive now.
  find(agent) {
    this.select(agent);
    if (!this.episode.agentAt(agent, this.time)) {
      const [track] = this.episode.tracksOf[agent];
      if (track !== undefined) this.goTo(this.episode.first[track] * this.episode.frame);
    }
    this.bring();
  }

  bring() {
    const place = this.agent === null ? null : this.episode.agentAt(this.agent, this.time), { map } = this.views[0];
    if (!place) return;
    const there = L.latLng(place[1], place[0]);
    if (this.follow || !map.getBounds().pad(-0.02).contains(there)) map.panTo(there, { animate: false });
  }

  setFollow(follow) {
    this.follow = follow && this.agent !== null;
    this.bring();
    this.invalidate();
  }

  goTo(time) {
    this.time = Math.max(0, Math.min(this.end, time));
    this.bring();
    this.invalidate();
  }

  play(playing) {
    this.playing = playing;
    if (playing && this.time >= this.end) this.time = 0;
    $("play").textContent = playing ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    this.before = null;
    this.invalidate();
  }

  invalidate() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame((now) => { this.waiting = false; this.frame(now); });
  }

  frame(now) {
    if (this.playing) {
      if (this.before !== null) this.time += this.speed * Math.min(0.25, (now - this.before) / 1000);
      this.before = now;
      if (this.time >= this.end) { this.time = this.end; this.play(false); }
      if (this.follow) this.bring();
    }
    let again = false;
    for (const view of this.views) again = view.draw() || again;
    $("clock").textContent = `${clock(this.time)} / ${clock(this.end)}`;
    if (document.activeElement !== $("time") || this.playing) $("time").value = this.time;
    $("time").setAttribute("aria-valuetext", clock(this.time));
    this.panel.draw();
    if (!this.strip) { this.strip = true; drawStrip(this, $("strip")); }
    if (this.playing || again) this.invalidate();
  }

  // Step through the agents, or the decisions of the selected one.
  step(by) {
    const count = this.said.agents.length;
    this.find(this.agent === null ? (by > 0 ? 0 : count - 1) : (this.agent + by + count) % count);
  }

  stepDecision(by) {
    if (this.agent === null) return;
    const decisions = this.episode.decisions[this.agent], k = this.episode.decided(this.agent, this.time) + by;
    if (decisions[k]) this.goTo(decisions[k].at);
  }

  key(event) {
    const { target } = event, name = target.tagName;
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || name === "SELECT") return;
    const inMap = target.closest(".leaflet-container"), typing = target === $("time");
    const pace = (by) => { const s = $("speed"); s.selectedIndex = Math.max(0, Math.min(s.length - 1, s.selectedIndex + by)); s.onchange(); };
    const keys = {
      " ": () => (name === "BUTTON" || name === "A" ? false : this.play(!this.playing)),
      ArrowLeft: () => (inMap || typing ? false : this.goTo(this.time - JUMP_S)),
      ArrowRight: () => (inMap || typing ? false : this.goTo(this.time + JUMP_S)),
      ",": () => this.goTo(this.time - 1), ".": () => this.goTo(this.time + 1),
      "[": () => pace(-1), "]": () => pace(1), n: () => this.step(1), p: () => this.step(-1),
      j: () => this.stepDecision(1), k: () => this.stepDecision(-1), f: () => this.setFollow(!this.follow),
      o: () => this.setOverlay(!this.overlay), w: () => this.whole(), Escape: () => this.select(null),
      "?": () => $("help").showModal(),
      "+": () => (inMap ? false : this.views[0].map.zoomIn()), "-": () => (inMap ? false : this.views[0].map.zoomOut()),
    };
    const act = keys[event.key];
    if (act && act() !== false) event.preventDefault();
  }

  setOverlay(overlay) {
    if (this.episodes.length < 2) return;
    this.overlay = overlay;
    this.arrange();
  }
}

function facts(said) {
  const day = said.day ? ` ${said.day}.` : "";
  return `${said.scenario}: ${said.agents.length} agents in traffic seed ${said.trafficSeed}.${day} Times are min:s after the warm-up.`;
}

async function begin() {
  const said = JSON.parse($("data").textContent), arrays = JSON.parse($("arrays").textContent);
  $("facts").textContent = facts(said);
  $("facts").title = $("facts").textContent;
  if (!("DecompressionStream" in window)) {
    $("panel").append(make("p", { className: "busy", textContent: "This browser is too old to read the recording. Use Chrome 80, Firefox 113, Safari 16.4 or newer." }));
    return;
  }
  const streets = await readStreets(arrays.streets, said.grid.quantum);
  const episodes = await Promise.all(said.episodes.map((one, i) => Episode.read(
    { ...one, departs: said.agents.map((agent) => agent.depart) }, arrays.episodes[i], said.grid.quantum)));
  for (const event of said.events) {
    const name = streets.names[streets.street[event.edges[0]]];
    event.short = event.text.replace(/ from [\d.]+ to [\d.]+ s$/, "");
    if (name && event.text.startsWith("'")) {
      event.text = `${name}: ${event.text}`;
      event.short = `${name}: ${event.short.replace(/^'[^']*',? ?/, "")}`;
    }
  }
  const app = new App(said, streets, episodes);
  if (episodes.length > 1) {
    $("ring-sign").hidden = $("ring-text").hidden = false;
    $("ring-text").textContent = `In the overlay: an agent of ${episodes[1].name}. Other vehicles are those of ${episodes[0].name}.`;
  }
  $("credit").textContent = `Map: ${said.attribution}`;
  $("time").max = app.end;
  $("time").oninput = () => app.goTo(Number($("time").value));
  $("play").onclick = () => app.play(!app.playing);
  $("speed").onchange = () => { app.speed = Number($("speed").value); };
  $("layout").onclick = () => app.setOverlay(!app.overlay);
  $("whole").onclick = () => app.whole();
  $("help-open").onclick = () => $("help").showModal();
  document.addEventListener("keydown", (event) => app.key(event));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.readColours());
  window.addEventListener("resize", () => { app.strip = null; app.invalidate(); });
  app.play(false);
  document.body.dataset.ready = "true";
}

begin();
