// This brain's own surface, found by looking through the T1w image along parallel rays.

// Between cerebrospinal fluid (about 0.3) and grey matter (about 0.75), white matter being 1.
const SURFACE_T1W = 0.55;
// Pixels across a voxel.
const FINENESS = 3;
// A map is read this many voxels below the surface: the cortex is 2 to 4 mm thick.
const BELOW = 1;
// Where the lamp stands (to the right, up, to the reader), and what reaches the shadow.
const LIGHT = [-0.4, 0.5, 0.77];
const AMBIENT = 0.3;
// Grey of the bare surface, and how far behind it the empty background lies in voxels.
const PLAIN = 215;
const BACKGROUND = 60;

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

  // Each ray runs along an axis of the grid: between the four lines of voxels around it brightness
  // is their weighted mean, and between two voxels of the ray it changes evenly.
  cast() {
    const { told, t1w, strides } = this.view.volumes;
    const { axis, towards, right, up, half } = this.sight;
    const length = told.shape[axis];
    const wanted = (SURFACE_T1W / told.brightest) * 255;
    const middle = Math.round(-told.origin[axis] / told.step[axis]);
    const first = half ? middle : towards > 0 ? 0 : length - 1;
    const last = towards > 0 ? length - 1 : 0;
    this.depth = new Float32Array(this.width * this.height).fill(NaN);
    this.voxel = new Int32Array(this.width * this.height).fill(-1);
    const [across, upwards] = [strides[right[0]], strides[up[0]]];
    const [columns, rows] = [told.shape[right[0]], told.shape[up[0]]];
    // Place on the grid of a column or row of pixels, inside the outermost voxels.
    const along = (way, n, voxels) => {
      const place = (n + 0.5) / FINENESS - 0.5;
      return Math.min(Math.max(way > 0 ? place : voxels - 1 - place, 0), voxels - 1.001);
    };
    for (let row = 0, p = 0; row < this.height; row += 1) {
      const y = along(-up[1], row, rows);
      const b = y - Math.floor(y);
      for (let column = 0; column < this.width; column += 1, p += 1) {
        const x = along(right[1], column, columns);
        const a = x - Math.floor(x);
        const start = Math.floor(x) * across + Math.floor(y) * upwards;
        let before = 0;
        for (let n = first; n !== last + towards; n += towards) {
          const v = start + n * strides[axis];
          const bright = (t1w[v] * (1 - a) + t1w[v + across] * a) * (1 - b)
            + (t1w[v + upwards] * (1 - a) + t1w[v + upwards + across] * a) * b;
          // Vessels and membranes are thinner than cortex: the next voxel must be bright as well.
          if (bright >= wanted && t1w[v + towards * strides[axis]] >= wanted) {
            const beyond = bright > before ? (bright - wanted) / (bright - before) : 0;
            this.depth[p] = Math.abs(n - first) - (n === first ? 0 : beyond);
            this.voxel[p] = v + towards * BELOW * strides[axis];
            break;
          }
          before = bright;
        }
      }
    }
    this.light = this.illuminate();
  }

  // How bright each pixel is under a lamp above the left shoulder of the one who looks.
  illuminate() {
    const light = new Float32Array(this.width * this.height);
    const deep = (p) => (this.voxel[p] < 0 ? BACKGROUND : this.depth[p]);
    for (let row = 1; row < this.height - 1; row += 1) {
      for (let column = 1; column < this.width - 1; column += 1) {
        const p = row * this.width + column;
        const x = (deep(p + 1) - deep(p - 1)) * (FINENESS / 2);
        const y = (deep(p - this.width) - deep(p + this.width)) * (FINENESS / 2);
        const lit = (x * LIGHT[0] + y * LIGHT[1] + LIGHT[2]) / Math.hypot(x, y, 1);
        light[p] = AMBIENT + (1 - AMBIENT) * Math.max(lit, 0);
      }
    }
    return light;
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
    for (let row = 0, p = 0; row < this.height; row += 1) {
      for (let column = 0; column < this.width; column += 1, p += 1) {
        if (this.voxel[p] < 0) continue;
        const colour = view.volumes.colour(
          view.map, this.voxel[p], Math.floor(column / FINENESS), Math.floor(row / FINENESS),
        );
        const part = (colour[3] / 255) * view.opacity;
        for (let n = 0; n < 3; n += 1) {
          picture.data[4 * p + n] = this.light[p] * (part * colour[n] + (1 - part) * PLAIN);
        }
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
