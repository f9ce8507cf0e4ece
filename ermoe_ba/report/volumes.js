// The volumes that the page holds, with i running fastest, and the colours of their values.

// Faint stripes tell younger from older, and patterns the experts, where colours do not.
const FAINT = 0.35;
const PATTERNS = [
  () => false,
  (a, b) => (a + b) % 4 === 0,
  (a, b) => (a - b + 400) % 4 === 0,
  (a) => a % 4 === 0,
  (a, b) => b % 4 === 0,
  (a, b) => a % 4 === 0 || b % 4 === 0,
  (a, b) => a % 2 === 0 && b % 2 === 0,
];
const NOBODY = 255;

const readVolumes = async (uri, told) => {
  const text = atob(uri.slice(uri.indexOf(",") + 1));
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Volumes(await new Response(stream).arrayBuffer(), told);
};

class Volumes {
  constructor(buffer, told) {
    this.told = told;
    const [ni, nj, nk] = told.shape;
    this.count = ni * nj * nk;
    let start = 0;
    const take = (Kind) => {
      const part = new Kind(buffer, start, this.count);
      start += part.byteLength;
      return part;
    };
    this.labels = take(Uint32Array);
    this.stored = Array.from({ length: 1 + told.experts.length }, () => take(Int16Array));
    this.t1w = take(Uint8Array);
    this.winner = this.findWinners();
    this.centres = this.findCentres();
  }

  index(at) {
    const [ni, nj] = this.told.shape;
    return at[0] + ni * (at[1] + nj * at[2]);
  }

  place(index) {
    const [ni, nj] = this.told.shape;
    return [index % ni, Math.floor(index / ni) % nj, Math.floor(index / (ni * nj))];
  }

  millimetres(at) {
    return at.map((n, axis) => this.told.origin[axis] + this.told.step[axis] * n);
  }

  value(map, index) {
    return this.stored[map.number][index] * map.scale;
  }

  weights(index) {
    const maps = this.told.maps.filter((map) => map.kind === "weight");
    return maps.map((map) => this.value(map, index));
  }

  findWinners() {
    const winner = new Uint8Array(this.count).fill(NOBODY);
    const largest = new Float32Array(this.count);
    this.told.maps.filter((map) => map.kind === "weight").forEach((map, expert) => {
      for (let v = 0; v < this.count; v += 1) {
        const weight = this.value(map, v);
        if (weight > largest[v]) {
          largest[v] = weight;
          winner[v] = expert;
        }
      }
    });
    return winner;
  }

  // Of each region, the voxel next to its middle: the middle itself may lie outside.
  findCentres() {
    const sums = new Map();
    const visit = (use) => {
      for (let v = 0; v < this.count; v += 1) {
        if (this.labels[v] !== 0) use(this.labels[v], v, this.place(v));
      }
    };
    visit((label, v, [i, j, k]) => {
      const sum = sums.get(label) ?? [0, 0, 0, 0];
      sums.set(label, [sum[0] + i, sum[1] + j, sum[2] + k, sum[3] + 1]);
    });
    const best = new Map();
    visit((label, v, [i, j, k]) => {
      const [a, b, c, n] = sums.get(label);
      const far = (i - a / n) ** 2 + (j - b / n) ** 2 + (k - c / n) ** 2;
      if (!best.has(label) || far < best.get(label)[0]) best.set(label, [far, [i, j, k]]);
    });
    return new Map(Array.from(best, ([label, [, at]]) => [label, at]));
  }

  largest(map) {
    let found = 0;
    for (let v = 1; v < this.count; v += 1) {
      if (Math.abs(this.value(map, v)) > Math.abs(this.value(map, found))) found = v;
    }
    return this.place(found);
  }

  // Red, green, blue and opacity of a value that is drawn at column a and row b.
  colour(map, index, a, b) {
    if (map.kind === "winner") {
      const expert = this.winner[index];
      return expert === NOBODY ? [0, 0, 0, 0] : this.patch(expert, a, b);
    }
    return this.shade(map, this.value(map, index), a, b);
  }

  patch(expert, a, b) {
    const [red, green, blue, opacity] = this.told.patches[expert];
    const faint = PATTERNS[expert % PATTERNS.length](a, b);
    return [red, green, blue, faint ? opacity * FAINT : opacity];
  }

  shade(map, value, a, b) {
    const unit = map.kind === "years" ? value / (2 * map.limit) + 0.5 : value / map.limit;
    const step = Math.round(Math.min(Math.max(unit, 0), 1) * 255);
    const [red, green, blue, opacity] = this.told.ramps[map.kind][step];
    const faint = map.kind === "years" && value < 0 && (a + b) % 4 === 0;
    return [red, green, blue, faint ? opacity * FAINT : opacity];
  }
}
