// The brain as if of glass: of the voxels behind each other, the one with the largest value.
class GlassPane {
  constructor(canvas, plane, view) {
    Object.assign(this, { canvas, plane, view, shown: null });
    const { shape } = view.volumes.told;
    this.width = shape[plane.columns];
    this.height = shape[plane.rows];
    canvas.style.aspectRatio = `${this.width} / ${this.height}`;
    this.brain = this.project(view.volumes.t1w).value;
    this.layer = document.createElement("canvas");
    this.layer.width = this.width;
    this.layer.height = this.height;
    canvas.addEventListener("click", (event) => this.visit(event));
    view.listen(() => this.draw());
  }

  // What is stored with the largest size along each line of sight, and where; row 0 on top.
  project(stored) {
    const [ni, nj, nk] = this.view.volumes.told.shape;
    const value = new Int16Array(this.width * this.height);
    const voxel = new Uint32Array(this.width * this.height);
    // A step along an axis is one on the picture: a column, a row up, or none at all.
    const [stepI, stepJ, stepK] = [0, 1, 2].map((axis) => {
      if (axis === this.plane.columns) return 1;
      return axis === this.plane.rows ? -this.width : 0;
    });
    for (let k = 0, v = 0; k < nk; k += 1) {
      for (let j = 0; j < nj; j += 1) {
        let p = (this.height - 1) * this.width + j * stepJ + k * stepK;
        for (let i = 0; i < ni; i += 1, v += 1, p += stepI) {
          if (Math.abs(stored[v]) > Math.abs(value[p])) {
            value[p] = stored[v];
            voxel[p] = v;
          }
        }
      }
    }
    return { value, voxel };
  }

  visit(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const row = Math.floor(((event.clientY - box.top) / box.height) * this.height);
    const p = row * this.width + column;
    if (this.found?.value[p]) this.view.moveTo(this.view.volumes.place(this.found.voxel[p]));
  }

  inside(column, row) {
    return column >= 0 && row >= 0 && column < this.width && row < this.height
      && this.brain[row * this.width + column] > 0;
  }

  draw() {
    const { view, canvas } = this;
    const { volumes, map } = view;
    if (this.shown !== map) {
      this.shown = map;
      // Which expert wins is no amount: there, the years say where to look.
      this.drawn = map.kind === "winner" ? volumes.told.maps[0] : map;
      this.found = this.project(volumes.stored[this.drawn.number]);
      this.fillLayer();
    }
    const scale = fitCanvas(canvas, this.width, this.height);
    if (!scale) return;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(this.layer, 0, 0, canvas.width, canvas.height);
    const { columns, rows, edges } = this.plane;
    const x = (view.at[columns] + 0.5) * scale;
    const y = (this.height - 0.5 - view.at[rows]) * scale;
    context.beginPath();
    context.arc(x, y, 2.5 * scale, 0, 2 * Math.PI);
    context.lineWidth = Math.max(1.5, scale / 2);
    context.strokeStyle = "#0b5c8a";
    context.stroke();
    const size = 14 * (canvas.width / canvas.clientWidth);
    edges.forEach((letter, end) => {
      const edge = end ? canvas.width - size * 0.3 : size * 0.3;
      writeOn(context, letter, edge, canvas.height / 2, size, end ? "right" : "left");
    });
  }

  fillLayer() {
    const context = this.layer.getContext("2d");
    const picture = context.createImageData(this.width, this.height);
    for (let row = 0, p = 0; row < this.height; row += 1) {
      for (let column = 0; column < this.width; column += 1, p += 1) {
        const rim = this.inside(column, row) && !(this.inside(column - 1, row)
          && this.inside(column + 1, row) && this.inside(column, row - 1)
          && this.inside(column, row + 1));
        const ground = rim ? 120 : this.inside(column, row) ? 236 : 255;
        const [red, green, blue, opacity] = this.view.volumes.shade(
          this.drawn, this.found.value[p] * this.drawn.scale, column, row,
        );
        const part = opacity / 255;
        picture.data.set(
          [red, green, blue].map((level) => part * level + (1 - part) * ground), 4 * p,
        );
        picture.data[4 * p + 3] = 255;
      }
    }
    context.putImageData(picture, 0, 0);
  }
}
