// Three slices through the crosshair, left on the left: drawn, and steered by hand and by key.
const PLANES = [
  { name: "Sagittal", across: 0, columns: 1, rows: 2, edges: ["P", "A"] },
  { name: "Coronal", across: 1, columns: 0, rows: 2, edges: ["L", "R"] },
  { name: "Axial", across: 2, columns: 0, rows: 1, edges: ["L", "R"] },
];
// With the shift key a step is this many voxels.
const STRIDE = 5;

const inMillimetres = (axis, mm) => {
  const whole = Math.round(mm);
  return `${"xyz"[axis]} ${whole < 0 ? "−" : ""}${Math.abs(whole)}`;
};

// Fits a canvas to the screen's own pixels; 0 where it is not shown.
const fitCanvas = (canvas, width, height) => {
  const across = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
  if (!across) return 0;
  const scale = across / width;
  canvas.width = across;
  canvas.height = Math.round(height * scale);
  return scale;
};

const writeOn = (context, text, x, y, size, align, colour = "#fff") => {
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = size / 4;
  context.strokeStyle = "#000";
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
};

class SlicePane {
  constructor(canvas, slider, plane, view) {
    Object.assign(this, { canvas, slider, plane, view });
    this.width = view.volumes.told.shape[plane.columns];
    this.height = view.volumes.told.shape[plane.rows];
    canvas.style.aspectRatio = `${this.width} / ${this.height}`;
    this.layers = [0, 1].map(() => {
      const layer = document.createElement("canvas");
      layer.width = this.width;
      layer.height = this.height;
      return layer;
    });
    slider.max = view.volumes.told.shape[plane.across] - 1;
    slider.addEventListener("input", () => this.go(plane.across, Number(slider.value)));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
      if (event.pointerType === "mouse") this.point(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.point(event);
    });
    // A finger that scrolls the page ends in pointercancel, and leaves the crosshair alone.
    canvas.addEventListener("pointerup", (event) => this.point(event));
    view.listen(() => this.draw());
  }

  go(axis, to) {
    const at = [...this.view.at];
    at[axis] = to;
    this.view.moveTo(at);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const row = Math.floor(((event.clientY - box.top) / box.height) * this.height);
    const at = [...this.view.at];
    at[this.plane.columns] = column;
    at[this.plane.rows] = this.height - 1 - row;
    this.view.moveTo(at);
  }

  key(event) {
    const { columns, rows, across } = this.plane;
    const moves = {
      ArrowLeft: [columns, -1],
      ArrowRight: [columns, 1],
      ArrowDown: [rows, -1],
      ArrowUp: [rows, 1],
      PageDown: [across, -1],
      PageUp: [across, 1],
    };
    if (event.key === "Home") {
      this.view.visitLargest();
    } else if (moves[event.key]) {
      const [axis, step] = moves[event.key];
      this.go(axis, this.view.at[axis] + step * (event.shiftKey ? STRIDE : 1));
    } else {
      return;
    }
    event.preventDefault();
  }

  // Index of the voxel that a column and a row show.
  voxel(column, row) {
    const { columns, rows, across } = this.plane;
    const { volumes: { strides }, at } = this.view;
    return column * strides[columns] + (this.height - 1 - row) * strides[rows]
      + at[across] * strides[across];
  }

  draw() {
    const { view, plane, canvas } = this;
    const mm = view.volumes.millimetres(view.at)[plane.across];
    this.slider.value = view.at[plane.across];
    this.slider.setAttribute("aria-valuetext", `${inMillimetres(plane.across, mm)} mm`);
    const scale = fitCanvas(canvas, this.width, this.height);
    if (!scale) return;
    this.fillLayers();
    const context = canvas.getContext("2d");
    context.drawImage(this.layers[0], 0, 0, canvas.width, canvas.height);
    context.globalAlpha = view.opacity;
    // A map is no finer than its voxels: it is not smoothed.
    context.imageSmoothingEnabled = false;
    context.drawImage(this.layers[1], 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
    if (view.outlined !== null) this.outline(context, scale);
    this.cross(context, scale);
    const size = 12 * (canvas.width / canvas.clientWidth);
    plane.edges.forEach((letter, end) => {
      const x = end ? canvas.width - size * 0.4 : size * 0.4;
      writeOn(context, letter, x, canvas.height / 2, size * 1.15, end ? "right" : "left");
    });
    const words = `${inMillimetres(plane.across, mm)} mm`;
    writeOn(context, words, canvas.width / 2, canvas.height - size * 0.8, size, "center");
  }

  fillLayers() {
    const { volumes, map } = this.view;
    const [grey, colour] = this.layers.map((layer) => layer.getContext("2d"));
    const below = grey.createImageData(this.width, this.height);
    const above = colour.createImageData(this.width, this.height);
    for (let row = 0, p = 0; row < this.height; row += 1) {
      for (let column = 0; column < this.width; column += 1, p += 4) {
        const v = this.voxel(column, row);
        below.data[p] = below.data[p + 1] = below.data[p + 2] = volumes.t1w[v];
        below.data[p + 3] = 255;
        above.data.set(volumes.colour(map, v, column, row), p);
      }
    }
    grey.putImageData(below, 0, 0);
    colour.putImageData(above, 0, 0);
  }

  outline(context, scale) {
    const inside = (column, row) => column >= 0 && row >= 0 && column < this.width
      && row < this.height
      && this.view.volumes.labels[this.voxel(column, row)] === this.view.outlined;
    context.beginPath();
    for (let row = 0; row <= this.height; row += 1) {
      for (let column = 0; column <= this.width; column += 1) {
        const here = inside(column, row);
        if (here !== inside(column - 1, row)) {
          context.moveTo(column * scale, row * scale);
          context.lineTo(column * scale, (row + 1) * scale);
        }
        if (here !== inside(column, row - 1)) {
          context.moveTo(column * scale, row * scale);
          context.lineTo((column + 1) * scale, row * scale);
        }
      }
    }
    this.stroke(context, scale, "#fff");
  }

  cross(context, scale) {
    const { columns, rows } = this.plane;
    const x = (this.view.at[columns] + 0.5) * scale;
    const y = (this.height - 0.5 - this.view.at[rows]) * scale;
    const gap = 3 * scale;
    context.beginPath();
    for (const [from, to] of [[0, x - gap], [x + gap, this.canvas.width]]) {
      context.moveTo(from, y);
      context.lineTo(to, y);
    }
    for (const [from, to] of [[0, y - gap], [y + gap, this.canvas.height]]) {
      context.moveTo(x, from);
      context.lineTo(x, to);
    }
    this.stroke(context, scale, "#7df9ff");
  }

  // Light on dark: seen over whatever lies below.
  stroke(context, scale, colour) {
    const thin = Math.max(1, scale / 3);
    context.lineWidth = thin * 2.2;
    context.strokeStyle = "#000";
    context.stroke();
    context.lineWidth = thin;
    context.strokeStyle = colour;
    context.stroke();
  }
}
