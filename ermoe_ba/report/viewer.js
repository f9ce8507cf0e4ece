// The interactive view: what is shown where, and who is told of it.
class View {
  constructor(volumes) {
    this.volumes = volumes;
    this.listeners = [];
    this.map = volumes.told.maps[0];
    this.opacity = 1;
    this.outlined = null;
    this.at = volumes.weightiest(this.map);
  }

  listen(listener) {
    this.listeners.push(listener);
    listener();
  }

  set(changes) {
    Object.assign(this, changes);
    this.listeners.forEach((listener) => listener());
  }

  moveTo(at) {
    const { shape } = this.volumes.told;
    this.set({ at: at.map((n, axis) => Math.min(Math.max(n, 0), shape[axis] - 1)) });
  }

  labelHere() {
    return this.volumes.labels[this.volumes.index(this.at)];
  }

  // Goes to a region and outlines it; asked again, it takes the outline away.
  visit(label) {
    if (this.outlined === label) {
      this.set({ outlined: null });
      return;
    }
    this.outlined = label;
    this.moveTo(this.volumes.centre(label));
  }

  visitLargest() {
    const [contributions] = this.volumes.told.maps;
    this.moveTo(this.volumes.largest(this.map.kind === "winner" ? contributions : this.map));
  }
}

const signedNumber = (value, decimals) => {
  const text = Math.abs(value).toFixed(decimals);
  return `${Number(text) === 0 ? "±" : value < 0 ? "−" : "+"}${text}`;
};

// What the crosshair shows, in words and numbers.
class Readout {
  constructor(view, regions) {
    Object.assign(this, { view, regions });
    this.parts = Object.fromEntries(
      ["place", "region", "years", "t", "t1w", "winner"].map((name) => [
        name, document.getElementById(`here-${name}`),
      ]),
    );
    this.weights = Array.from(document.querySelectorAll("#here-weights dd"));
    this.spoken = document.getElementById("here");
    view.listen(() => this.tell());
  }

  tell() {
    const { volumes, at, map } = this.view;
    const { told } = volumes;
    const v = volumes.index(at);
    const mm = volumes.millimetres(at);
    const place = `${mm.map((n, axis) => inMillimetres(axis, n)).join(", ")} mm`;
    const region = this.regions.nameOf(this.view.labelHere());
    const [first] = told.maps;
    const years = `${signedNumber(volumes.value(first, v), first.decimals + 1)} ${first.unit}`;
    const winner = told.experts[volumes.winner[v]] ?? "none: outside the brain";
    const weights = volumes.weightMaps().map((one) => volumes.value(one, v));
    this.parts.place.textContent = place;
    this.parts.region.textContent = region;
    this.parts.years.textContent = years;
    this.parts.t1w.textContent = ((volumes.t1w[v] / 255) * told.brightest).toFixed(2);
    this.parts.winner.textContent = winner;
    this.weights.forEach((cell, expert) => {
      cell.textContent = weights[expert].toFixed(3);
      cell.style.setProperty("--part", weights[expert]);
    });
    const t = map.kind === "t" ? signedNumber(volumes.value(map, v), 2) : "no effect chosen";
    // Where no effect was measured there is no such line.
    if (this.parts.t) this.parts.t.textContent = t;
    const shown = { years, winner, t }[map.kind] ?? `${volumes.value(map, v).toFixed(3)} ${map.unit}`;
    this.spoken.textContent = `${map.name}: ${shown}; ${region}; ${place}`;
  }
}

// Colour bar, or for the winner a patch of each expert's colour and pattern.
class Legend {
  constructor(view) {
    this.view = view;
    this.canvas = document.getElementById("bar");
    this.ends = ["low", "middle", "high"].map((name) => document.getElementById(`bar-${name}`));
    this.patches = document.getElementById("patches");
    this.scale = document.getElementById("scale");
    this.said = document.getElementById("said");
    view.volumes.told.experts.forEach((name, expert) => {
      const item = document.createElement("li");
      const patch = document.createElement("canvas");
      patch.width = 24;
      patch.height = 16;
      this.paint(patch, (a, b) => view.volumes.patch(expert, a, b));
      item.append(patch, name);
      this.patches.append(item);
    });
    view.listen(() => this.draw());
  }

  // Over mid-grey, as the map lies over the scan.
  paint(canvas, colourAt) {
    const context = canvas.getContext("2d");
    const picture = context.createImageData(canvas.width, canvas.height);
    for (let p = 0; p < canvas.width * canvas.height; p += 1) {
      const [red, green, blue, opacity] = colourAt(
        p % canvas.width, Math.floor(p / canvas.width),
      );
      const part = opacity / 255;
      picture.data.set(
        [red, green, blue].map((level) => part * level + (1 - part) * 128), 4 * p,
      );
      picture.data[4 * p + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  }

  draw() {
    const { volumes, map } = this.view;
    if (this.shown === map) return;
    this.shown = map;
    this.said.textContent = map.said;
    this.scale.hidden = map.kind === "winner";
    this.patches.hidden = map.kind !== "winner";
    if (map.kind === "winner") return;
    const low = isSigned(map) ? -map.limit : 0;
    this.paint(this.canvas, (a, b) => volumes.shade(
      map, low + ((map.limit - low) * a) / (this.canvas.width - 1), a, b,
    ));
    [low, (low + map.limit) / 2, map.limit].forEach((value, n) => {
      const text = isSigned(map) ? signedNumber(value, map.decimals)
        : value.toFixed(map.decimals);
      this.ends[n].textContent = n === 1 ? `${text} ${map.unit}` : text;
    });
  }
}

const startViewer = async (regions) => {
  const root = document.getElementById("viewer");
  const told = JSON.parse(root.dataset.told);
  const volumes = await readVolumes(root.dataset.volumes, told);
  const view = new View(volumes);
  root.hidden = false;
  document.getElementById("no-viewer").hidden = true;
  const choice = document.getElementById("map");
  choice.addEventListener("change", () => view.set({ map: told.maps[choice.selectedIndex] }));
  const opacity = document.getElementById("opacity");
  opacity.addEventListener("input", () => view.set({ opacity: Number(opacity.value) / 100 }));
  document.getElementById("largest").addEventListener("click", () => view.visitLargest());
  PLANES.forEach((plane, n) => {
    const [canvas, slider] = [`slice-${n}`, `slider-${n}`].map((id) => document.getElementById(id));
    new SlicePane(canvas, slider, plane, view);
    new GlassPane(document.getElementById(`glass-${n}`), plane, view);
  });
  SIGHTS.forEach((sight, n) => {
    new SurfacePane(document.getElementById(`surface-${n}`), sight, view);
  });
  new Legend(view);
  new Readout(view, regions);
  regions.link(view);
  let width = root.clientWidth;
  new ResizeObserver(() => {
    // Words that take another line change the height: only another width asks for new pictures.
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    view.set({});
  }).observe(root);
};
