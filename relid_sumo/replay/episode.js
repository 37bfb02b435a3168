// The streets, and the vehicles of an episode: where they are at a time.

const STANDS_KMH = 5, TURNED = 256 / (2 * Math.PI);

async function readStreets(packed, quantum) {
  const start = await numbers(Uint32Array, packed.start);
  const [ids, names, street, lanes, speed, turns, x, y] = await Promise.all([
    lines(packed.ids), lines(packed.names), numbers(Uint32Array, packed.street), numbers(Uint8Array, packed.lanes),
    numbers(Float32Array, packed.speed), numbers(Uint32Array, packed.turns), coordinates(packed.x, start), coordinates(packed.y, start),
  ]);
  const count = ids.length, box = new Float32Array(4 * count), metres = new Float32Array(count);
  const shapes = [];
  for (let edge = 0; edge < count; edge++) {
    const shape = new Float32Array(2 * (start[edge + 1] - start[edge]));
    let [west, south, east, north] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < shape.length; i += 2) {
      const px = (shape[i] = x[start[edge] + i / 2] * quantum), py = (shape[i + 1] = y[start[edge] + i / 2] * quantum);
      [west, south, east, north] = [Math.min(west, px), Math.min(south, py), Math.max(east, px), Math.max(north, py)];
      if (i) metres[edge] += Math.hypot(px - shape[i - 2], py - shape[i - 1]);
    }
    box.set([west, south, east, north], 4 * edge);
    shapes.push(shape);
  }
  const label = (edge) => names[street[edge]] || `edge ${ids[edge]}`;
  return { ids, names, street, lanes, speed, turns, box, metres, shapes, count, label };
}

class Episode {
  static async read(said, packed, quantum) {
    const made = new Episode();
    Object.assign(made, said, { quantum });
    [made.first, made.length, made.agent] = await Promise.all([
      numbers(Uint32Array, packed.first), numbers(Uint32Array, packed.length), numbers(Int32Array, packed.agent)]);
    const starts = new Uint32Array(made.first.length + 1);
    made.length.forEach((n, track) => { starts[track + 1] = starts[track] + n; });
    made.start = starts;
    [made.x, made.y] = await Promise.all([coordinates(packed.x, starts), coordinates(packed.y, starts)]);
    made.#turn();
    made.#count();
    made.#place = new Float64Array(4);
    return made;
  }

  #place;

  // The heading of each position, 256 to a full turn: a vehicle that stands looks where it last drove.
  #turn() {
    this.heading = new Uint8Array(this.x.length);
    for (let track = 0; track < this.first.length; track++) {
      const [from, to] = [this.start[track], this.start[track + 1]];
      let last = -1;
      for (let i = from; i < to; i++) {
        const j = Math.min(i + 1, to - 1), k = Math.max(j - 1, from);
        const dx = this.x[j] - this.x[k], dy = this.y[j] - this.y[k];
        if (dx * dx + dy * dy >= 16) {
          const heading = Math.round(Math.atan2(dy, dx) * TURNED) & 255;
          if (last < 0) this.heading.fill(heading, from, i);
          last = heading;
        }
        this.heading[i] = Math.max(last, 0);
      }
    }
  }

  // Vehicles on the network by frame, and the tracks of each agent.
  #count() {
    this.tracksOf = this.status.map(() => []);
    this.frames = 1;
    for (let track = 0; track < this.first.length; track++) {
      this.frames = Math.max(this.frames, this.first[track] + this.length[track]);
      if (this.agent[track] >= 0) this.tracksOf[this.agent[track]].push(track);
    }
    this.vehicles = new Int32Array(this.frames + 1);
    for (let track = 0; track < this.first.length; track++) {
      this.vehicles[this.first[track]]++;
      this.vehicles[this.first[track] + this.length[track]]--;
    }
    for (let i = 1; i <= this.frames; i++) this.vehicles[i] += this.vehicles[i - 1];
  }

  get end() { return (this.frames - 1) * this.frame; }

  running(time) { return this.vehicles[Math.min(this.frames - 1, Math.floor(time / this.frame))]; }

  // Where a track is: [x, y, heading in radians, speed in m/s] in an array that the next call overwrites; null if absent.
  at(track, time) {
    const frame = time / this.frame - this.first[track];
    if (frame < 0 || frame > this.length[track] - 1) return null;
    const i = this.start[track] + Math.floor(frame), j = Math.min(i + 1, this.start[track + 1] - 1);
    const part = frame - Math.floor(frame), place = this.#place;
    const dx = this.x[j] - this.x[i], dy = this.y[j] - this.y[i];
    place[0] = (this.x[i] + part * dx) * this.quantum;
    place[1] = (this.y[i] + part * dy) * this.quantum;
    place[2] = this.heading[i] / TURNED;
    place[3] = Math.hypot(dx, dy) * this.quantum / this.frame;
    return place;
  }

  agentAt(agent, time) {
    for (const track of this.tracksOf[agent]) {
      const place = this.at(track, time);
      if (place) return place;
    }
    return null;
  }

  arrived(time) {
    return this.status.filter((status, i) => status === "arrived" && this.departs[i] + this.travelTime[i] <= time).length;
  }

  // Index of the last decision of an agent up to a time; -1 before the first.
  decided(agent, time) {
    return this.decisions[agent].filter((one) => one.at <= time + 1e-6).length - 1;
  }
}
