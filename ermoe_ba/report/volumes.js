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

// Years and t lie on both sides of 0.
const isSigned = (map) => map.kind === "years" || map.kind === "t";

const readVolumes = async (uri, told) => {
  const text = atob(uri.slice(uri.indexOf(",") + 1));
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n += 1) bytes[n] = text.charCodeAt(n);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Volumes(await new Response(stream).arrayBuffer(), told);
};

class Volumes {
  constructor(buffer, told) {
    this.told = told;
    const [ni, nj, nk] = told.shape;
    this.count = ni * nj * nk;
    // From a voxel to the next along each axis.
    this.strides = [1, ni, ni * nj];
    let start = 0;
    const take = (Kind) => {
      const part = new Kind(buffer, start, this.count);
      start += part.byteLength;
      return part;
    };
    this.labels = take(Uint32Array);
    const stored = 1 + Math.max(...told.maps.map((map) => map.number));
    this.stored = Array.from({ length: stored }, () => take(Int16Array));
    this.t1w = take(Uint8Array);
    this.winner = this.findWinners();
    this.regions = this.findRegions();
  }

  index(at) {
    return at[0] + at[1] * this.strides[1] + at[2] * this.strides[2];
  }

  place(index) {
    const [, row, sheet] = this.strides;
    return [index % row, Math.floor((index % sheet) / row), Math.floor(index / sheet)];
  }

  millimetres(at) {
    return at.map((n, axis) => this.told.origin[axis] + this.told.step[axis] * n);
  }

  value(map, index) {
    return this.stored[map.number][index] * map.scale;
  }

  weightMaps() {
    return this.told.maps.filter((map) => map.kind === "weight");
  }

  findWinners() {
    const winner = new Uint8Array(this.count).fill(NOBODY);
    const largest = new Float32Array(this.count);
    this.weightMaps().forEach(({ number, scale }, expert) => {
      const stored = this.stored[number];
      for (let v = 0; v < this.count; v += 1) {
        const weight = stored[v] * scale;
        if (weight > largest[v]) {
          largest[v] = weight;
          winner[v] = expert;
        }
      }
    });
    return winner;
  }

  // Of each region, its voxels; a loop over millions of voxels looks a label up only at a change.
  findRegions() {
    const regions = new Map();
    let [last, voxels] = [0, null];
    for (let v = 0; v < this.count; v += 1) {
      const label = this.labels[v];
      if (label === 0) continue;
      if (label !== last) {
        if (!regions.has(label)) regions.set(label, []);
        [last, voxels] = [label, regions.get(label)];
      }
      voxels.push(v);
    }
    return regions;
  }

  // Of a region, the voxel next to its middle: the middle itself may lie outside.
  centre(label) {
    const places = this.regions.get(label).map((v) => this.place(v));
    const middle = [0, 1, 2].map(
      (axis) => places.reduce((sum, at) => sum + at[axis], 0) / places.length,
    );
    const far = (at) => at.reduce((sum, n, axis) => sum + (n - middle[axis]) ** 2, 0);
    return places.reduce((best, at) => (far(at) < far(best) ? at : best));
  }

  // The middle of the region that adds or takes most: somewhere to begin.
  weightiest(map) {
    const stored = this.stored[map.number];
    let [most, found] = [0, null];
    for (const [label, voxels] of this.regions) {
      const size = Math.abs(voxels.reduce((sum, v) => sum + stored[v], 0));
      if (size > most) [most, found] = [size, label];
    }
    return found === null ? this.largest(map) : this.centre(found);
  }

  largest(map) {
    const stored = this.stored[map.number];
    let found = 0;
    for (let v = 1; v < this.count; v += 1) {
      if (Math.abs(stored[v]) > Math.abs(stored[found])) found = v;
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
    const unit = isSigned(map) ? value / (2 * map.limit) + 0.5 : value / map.limit;
    const step = Math.round(Math.min(Math.max(unit, 0), 1) * 255);
    const [red, green, blue, opacity] = this.told.ramps[isSigned(map) ? "signed" : "weight"][step];
    const faint = isSigned(map) && value < 0 && (a + b) % 4 === 0;
    return [red, green, blue, faint ? opacity * FAINT : opacity];
  }
}
