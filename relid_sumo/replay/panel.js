// The panel: all agents, or the selected vehicle with its decisions.

class Panel {
  constructor(app, element) {
    [this.app, this.element] = [app, element];
    this.shown = null;
  }

  // Draw the panel if what it shows has changed.
  draw() {
    const { app } = this, { agent, track, episode, time } = app;
    const decided = agent === null ? -1 : episode.decided(agent, time);
    const key = [agent, track, app.episodes.indexOf(episode), app.follow].join();
    if (key !== this.shown) {
      const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      this.shown = key;
      this.decided = null;
      this.element.scrollTop = 0;
      this.element.replaceChildren(...(track !== null ? this.#other() : agent !== null ? this.#agent() : this.#all()));
      if (focused) this.element.querySelector(`[data-key="${focused}"]`)?.focus();
    }
    if (agent !== null && decided !== this.decided) this.#mark(decided);
    this.#live();
  }

  #all() {
    const { app } = this, { said, episodes } = app, two = episodes.length > 1;
    const known = (episode, i) => episode.status[i] === "arrived";
    const mean = (episode) => episode.travelTime.reduce((sum, s) => sum + s, 0) / said.agents.length;
    const heads = ["Agent", ...episodes.map((one) => one.name), ...(two ? ["Difference"] : [])];
    const cells = (times, marks) => {
      const [one, other] = times;
      return [...times.map((s, k) => make("td", { textContent: clock(s) + (marks[k] ? "" : " *") })),
        ...(two ? [make("td", { textContent: signed(one - other), className: one < other ? "better" : "" })] : [])];
    };
    const rows = said.agents.map((agent, i) => {
      const pick = make("button", { type: "button", className: "link", textContent: agent.name });
      pick.dataset.key = `agent ${i}`;
      const name = make("td", {}, dot(app.colourOf(i)), pick);
      const row = make("tr", { className: "pick", onclick: () => app.find(i) },
        name, ...cells(episodes.map((one) => one.travelTime[i]), episodes.map((one) => known(one, i))));
      return row;
    });
    const all = make("tr", {}, make("th", { textContent: "Mean" }), ...cells(episodes.map(mean), [true, true]));
    const missing = episodes.some((one) => one.status.some((status) => status !== "arrived"));
    const events = said.events.map((event) => make("li", {}, make("button", { type: "button",
      onclick: () => app.goTo(event.begin) }, make("time", { textContent: clock(event.begin) }),
      make("span", { className: "turn", textContent: event.text }))));
    return [
      make("h2", { textContent: `${said.agents.length} agents` }),
      make("p", { className: "note", textContent: `Travel times (min:s) from the scheduled departure${two ? `; the difference is ${episodes[0].name} minus ${episodes[1].name}, bold where ${episodes[0].name} is faster` : ""}. Select an agent to see its route and decisions.` }),
      legend(app),
      make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { textContent: text })))),
        make("tbody", {}, all, ...rows)),
      ...(missing ? [make("p", { className: "note", textContent: "* did not arrive: the time to the end plus the remaining free-flow time." })] : []),
      ...(events.length ? [make("h3", {}, make("i", { className: "event" }), "Events"), make("ol", { className: "decisions" }, ...events)] : []),
    ];
  }

  #agent() {
    const { app } = this, { said, streets, agent, episode } = app, trip = said.agents[agent];
    const decisions = episode.decisions[agent], status = episode.status[agent];
    const end = status === "arrived" ? `arrived after ${clock(episode.travelTime[agent])}` :
      { horizon: "still driving at the end", lost: "removed by SUMO before it arrived", "never inserted": "never found room to depart" }[status];
    const tabs = app.episodes.map((one) => {
      const tab = make("button", { type: "button", textContent: one.name, onclick: () => app.select(agent, one) });
      tab.setAttribute("aria-pressed", String(one === episode));
      tab.dataset.key = `tab ${one.name}`;
      return tab;
    });
    const follow = make("button", { type: "button", textContent: "Follow", title: "Keep the agent in the middle (f)",
      onclick: () => app.setFollow(!app.follow) });
    follow.setAttribute("aria-pressed", String(app.follow));
    follow.dataset.key = "follow";
    const list = decisions.map((decision, k) => make("li", {}, make("button", { type: "button",
      onclick: () => app.goTo(decision.at) },
      make("time", { textContent: clock(decision.at) }),
      make("span", { className: "turn", textContent: `→ ${streets.label(decision.edges[decision.chosen])}` }),
      make("span", { className: "p" }, decision.shares ? percent(decision.shares[decision.chosen]) : "", lost(decision)))));
    this.items = list;
    const none = episode.name === "rerouting" ? "SUMO's rerouting device chooses this agent's route; there are no decisions."
      : "It had no choice on its route.";
    return [
      make("div", { className: "row" }, back(app), ...(tabs.length > 1 ? tabs : []), follow),
      make("h2", {}, dot(app.colourOf(agent)), `${trip.name}, ${episode.name}`),
      make("p", { textContent: `From ${streets.label(trip.origin)} to ${streets.label(trip.destination)}. Departs at ${clock(trip.depart)}, ${end}.` }),
      this.live = make("p", { className: "note" }),
      make("p", { className: "note", textContent: "On the map: thick line, route so far; dashed, the rest of it; blue, the street chosen last." }),
      make("h3", { textContent: `${decisions.length} decision${decisions.length === 1 ? "" : "s"}` }),
      ...(decisions.length ? [make("ol", { className: "decisions" }, ...list)] : [make("p", { className: "note", textContent: none })]),
    ];
  }

  // Open the last decision of the selected agent.
  #mark(decided) {
    const { app } = this;
    this.decided = decided;
    this.items.forEach((item, k) => {
      item.classList.toggle("now", k === decided);
      item.querySelector(".options")?.remove();
    });
    if (decided < 0) return;
    const item = this.items[decided];
    item.append(this.#options(app.episode.decisions[app.agent][decided]));
    const [top, bottom] = [item.offsetTop - this.element.offsetTop, item.offsetHeight];
    if (top < this.element.scrollTop || top + bottom > this.element.scrollTop + this.element.clientHeight) {
      this.element.scrollTop = top - 40;
    }
  }

  #options(decision) {
    const { streets } = this.app, best = decision.tried ? Math.min(...decision.tried) : 0;
    const columns = ["Next street", ...(decision.shares ? ["Probability"] : []), ...(decision.congestion ? ["Congestion"] : []),
      ...(decision.tried ? ["Trip takes"] : [])];
    const rows = decision.edges.map((edge, i) => make("tr", { className: i === decision.chosen ? "now" : "" },
      make("td", { textContent: `${i === decision.chosen ? "✓ " : ""}${streets.label(edge)}`, title: `edge ${streets.ids[edge]}` }),
      ...(decision.shares ? [make("td", { className: "share" }, percent(decision.shares[i]), bar(decision.shares[i]))] : []),
      ...(decision.congestion ? [make("td", { textContent: `${decision.congestion[i].toFixed(1)}×` })] : []),
      ...(decision.tried ? [make("td", { textContent: clock(decision.tried[i]), className: decision.tried[i] === best ? "better" : "" })] : [])));
    const notes = [`On ${streets.label(decision.edge)}; ✓ is the choice.`];
    if (decision.remaining !== undefined) notes.push(`The critic expects ${clock(decision.remaining)} more to the destination.`);
    if (decision.congestion) notes.push("Congestion: travel time of the next street over its free-flow time, as the agent observes it.");
    if (decision.tried) notes.push("Each candidate was tried in a copy of the simulation, where the policy continued; bold is the shortest trip.");
    return make("div", { className: "options" },
      make("table", {}, make("thead", {}, make("tr", {}, ...columns.map((text) => make("th", { textContent: text })))), make("tbody", {}, ...rows)),
      make("p", { className: "note", textContent: notes.join(" ") }));
  }

  #other() {
    const { app } = this, { episode, track } = app, from = episode.first[track] * episode.frame;
    return [
      make("div", { className: "row" }, back(app)),
      make("h2", { textContent: `Other vehicle, ${episode.name}` }),
      make("p", { textContent: `Background traffic: no agent drives it. On the network from ${clock(from)} to ${clock(from + (episode.length[track] - 1) * episode.frame)}.` }),
      this.live = make("p", { className: "note" }),
    ];
  }

  #live() {
    const { app } = this, { episode, agent, track, time } = app;
    if (agent === null && track === null) return;
    const place = track !== null ? episode.at(track, time) : episode.agentAt(agent, time);
    const depart = agent === null ? 0 : app.said.agents[agent].depart;
    const text = place ? `Now ${Math.round(3.6 * place[3])} km/h.` : agent === null || time > depart ? "Not on the network now." : "Not departed yet.";
    if (this.live.textContent !== text) this.live.textContent = text;
  }
}

function legend({ said, episodes }) {
  const signs = [["dot", "agent"], ...(episodes.length > 1 ? [["dot ring", `in the overlay, one of ${episodes[1].name}`]] : []), ["square", "its destination"], ["other", "other vehicle"], ["other stands", "standing"],
    ...(said.events.length ? [["event", "event"]] : [])];
  return make("p", { className: "legend" }, ...signs.map(([sign, text]) => make("span", {}, make("i", { className: sign }), text)));
}

const dot = (colour) => make("i", { className: "dot", style: `background: ${colour}` });

// What the choice cost compared with the best candidate, where every candidate was tried.
function lost(decision) {
  if (!decision.tried) return "";
  const seconds = decision.tried[decision.chosen] - Math.min(...decision.tried);
  return make("small", { textContent: seconds ? ` +${seconds} s` : " best", className: seconds ? "worse" : "best" });
}

const bar = (share) => make("span", { className: "bar", style: `width: ${Math.round(100 * share)}%` });

function back(app) {
  const button = make("button", { type: "button", textContent: "← All agents", onclick: () => app.select(null) });
  button.dataset.key = "back";
  return button;
}
