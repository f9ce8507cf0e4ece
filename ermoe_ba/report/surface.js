// This brain's own surface, found by looking through the T1w image along parallel rays.

// Between cerebrospinal fluid (about 0.3) and grey matter (about 0.75), white matter being 1.
const SURFACE_T1W = 0.55;
// Pixels across a voxel, and steps of a ray within one.
const FINENESS = 3;
const RAY_STEP = 0.5;
// A map is read this many voxels below the surface: the cortex is 2 to 4 mm thick.
const BELOW = 1;
const LIGHT = [-0.4, 0.5, 0.77];

// Looking towards the end of an axis (+1) or its start (−1); `right` and `up` are axis and
// direction on the picture; `half` starts at the midline.
const SIGHTS = [
  { name: "Left side", axis: 0, towards: 1, right: [1, -1], up: [2, 1], edges: ["A", "P"] },
  { name: "Right side", axis: 0, towards: -1, right: [1, 1], up: [2, 1], edges: ["P", "A"] },
  { name: "From above", axis: 2, towards: -1, right: [0, 1], up: [1, 1], edges: ["L", "R"] },
  {
    name: "Left half from the midline", axis: 0, towards: -1, half: true, right: [1, 1], up: [2, 1],
    edges: ["P", "A"],
  },
  {
    name: "Right half from the midline", axis: 0, towards: 1, half: true, right: [1, -1],
    up: [2, 1], edges: ["A", "P"],
  },
  { name: "From below", axis: 2, towards: 1, right: [0, -1], up: [1, 1], edges: ["R", "L"] },
];

class SurfacePane {
  constructor(canvas, sight, view) {
    Object.assign(this, { canvas, sight, view, depth: null });
    const { shape } = view.volumes.told;
    this.width = shape[sight.right[0]] * FINENESS;
    this.height = shape[sight.up[0]] * FINENESS;
    canvas.style.aspectRatio = `${this.width} / ${this.height}`;
    canvas.addEventListener("click", (event) => this.visit(event));
    // Rays take a moment: they wait until somebody scrolls to the picture, or prints.
    const start = () => {
      if (this.depth) return;
      this.cast();
      view.listen(() => this.draw());
    };
    const watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      start();
    });
    watch.observe(canvas);
    window.addEventListener("beforeprint", start);
  }

  // Brightness between voxels, from the eight around.
  brightness([x, y, z]) {
    const { t1w, told: { shape: [ni, nj, nk] } } = this.view.volumes;
    const [i, j, k] = [Math.floor(x), Math.floor(y), Math.floor(z)];
    if (i < 0 || j < 0 || k < 0 || i + 1 >= ni || j + 1 >= nj || k + 1 >= nk) return 0;
    const [a, b, c] = [x - i, y - j, z - k];
    const v = i + ni * (j + nj * k);
    const line = (at) => t1w[at] * (1 - a) + t1w[at + 1] * a;
    const sheet = (at) => line(at) * (1 - b) + line(at + ni) * b;
    return sheet(v) * (1 - c) + sheet(v + ni * nj) * c;
  }

  cast() {
    const { told } = this.view.volumes;
    const { axis, towards, right, up, half } = this.sight;
    const length = told.shape[axis];
    const wanted = (SURFACE_T1W / told.brightest) * 255;
    const middle = -told.origin[axis] / told.step[axis];
    const first = half ? middle : towards > 0 ? 0 : length - 1;
    this.depth = new Float32Array(this.width * this.height).fill(NaN);
    this.voxel = new Int32Array(this.width * this.height).fill(-1);
    const at = [0, 0, 0];
    const along = (way, n, pixels) => {
      const voxel = (n + 0.5) / FINENESS - 0.5;
      return way > 0 ? voxel : pixels / FINENESS - 1 - voxel;
    };
    for (let row = 0, p = 0; row < this.height; row += 1) {
      at[up[0]] = along(-up[1], row, this.height);
      for (let column = 0; column < this.width; column += 1, p += 1) {
        at[right[0]] = along(right[1], column, this.width);
        for (let gone = 0; gone < length; gone += RAY_STEP) {
          at[axis] = first + towards * gone;
          if (at[axis] < 0 || at[axis] > length - 1) break;
          if (this.brightness(at) >= wanted) {
            this.depth[p] = gone;
            const below = [...at];
            below[axis] += towards * BELOW;
            this.voxel[p] = this.view.volumes.index(
              below.map((x, n) => Math.min(Math.max(Math.round(x), 0), told.shape[n] - 1)),
            );
            break;
          }
        }
      }
    }
    this.smooth();
  }

  // Rays move in steps: the mean of neighbours takes the terraces off.
  smooth() {
    const before = this.depth.slice();
    for (let row = 1; row < this.height - 1; row += 1) {
      for (let column = 1; column < this.width - 1; column += 1) {
        const p = row * this.width + column;
        let [sum, count] = [0, 0];
        for (let up = -1; up <= 1; up += 1) {
          for (let left = -1; left <= 1; left += 1) {
            const near = before[p + up * this.width + left];
            // Beyond a fold lies another surface.
            if (Math.abs(near - before[p]) < 2) {
              sum += near;
              count += 1;
            }
          }
        }
        if (count) this.depth[p] = sum / count;
      }
    }
  }

  visit(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const row = Math.floor(((event.clientY - box.top) / box.height) * this.height);
    const voxel = this.voxel ? this.voxel[row * this.width + column] : -1;
    if (voxel >= 0) this.view.moveTo(this.view.volumes.place(voxel));
  }

  draw() {
    const { canvas, view } = this;
    if (this.shown === view.map && this.opacity === view.opacity) return;
    Object.assign(this, { shown: view.map, opacity: view.opacity });
    canvas.width = this.width;
    canvas.height = this.height;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(this.width, this.height);
    const deep = (p) => (Number.isNaN(this.depth[p]) ? 60 : this.depth[p]);
    for (let row = 1; row < this.height - 1; row += 1) {
      for (let column = 1; column < this.width - 1; column += 1) {
        const p = row * this.width + column;
        if (this.voxel[p] < 0) continue;
        const slope = [
          (deep(p + 1) - deep(p - 1)) * (FINENESS / 2),
          (deep(p - this.width) - deep(p + this.width)) * (FINENESS / 2),
          1,
        ];
        const size = Math.hypot(...slope);
        const lit = slope.reduce((sum, part, n) => sum + (part * LIGHT[n]) / size, 0);
        const light = 0.3 + 0.7 * Math.max(lit, 0);
        const [red, green, blue, opacity] = view.volumes.colour(
          view.map, this.voxel[p], Math.floor(column / FINENESS), Math.floor(row / FINENESS),
        );
        const part = (opacity / 255) * view.opacity;
        picture.data.set(
          [red, green, blue].map((level) => light * (part * level + (1 - part) * 215)), 4 * p,
        );
        picture.data[4 * p + 3] = 255;
      }
    }
    context.putImageData(picture, 0, 0);
    this.sight.edges.forEach((letter, end) => {
      const x = end ? this.width - 6 : 6;
      writeOn(context, letter, x, this.height / 2, 20, end ? "right" : "left");
    });
  }
}
