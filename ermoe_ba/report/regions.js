// The table of regions: filtered by expert and by search, linked with the crosshair.
class RegionTable {
  constructor(table) {
    this.rows = Array.from(table.tBodies[0].rows);
    this.choice = document.getElementById("expert");
    this.search = document.getElementById("search");
    const count = document.getElementById("count");
    this.show = makeSortable(
      table,
      (row) => this.wants(row),
      (shown, all) => { count.textContent = `${shown} of ${all} rows`; },
    );
    this.choice.addEventListener("change", this.show);
    this.search.addEventListener("input", this.show);
    this.names = new Map();
    this.labels = this.rows.map((row) => Number(row.cells[1].textContent));
    this.rows.forEach((row, n) => {
      const side = { L: ", left", R: ", right" }[row.cells[3].textContent] ?? "";
      this.names.set(this.labels[n], row.cells[2].textContent + side);
    });
  }

  wants(row) {
    if (this.choice.value && row.cells[0].textContent !== this.choice.value) return false;
    const said = `${row.cells[2].textContent} ${row.cells[3].textContent}`.toLowerCase();
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => said.includes(word));
  }

  nameOf(label) {
    return this.names.get(label) ?? "outside the atlas";
  }

  // Without the view there is nowhere to go: regions become buttons only once it is there.
  link(view) {
    this.buttons = new Map();
    this.rows.forEach((row, n) => {
      const label = this.labels[n];
      if (!view.volumes.regions.has(label)) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = row.cells[2].textContent;
      button.title = "Move the crosshair there";
      button.addEventListener("click", () => {
        view.visit(label);
        document.getElementById("slice-2").scrollIntoView({ block: "nearest" });
      });
      row.cells[2].replaceChildren(button);
      this.buttons.set(row, button);
    });
    view.listen(() => this.mark(view));
  }

  mark(view) {
    const here = view.labelHere();
    // Hundreds of rows are touched only where something changed.
    if (here === this.marked && view.outlined === this.pressed) return;
    [this.marked, this.pressed] = [here, view.outlined];
    this.rows.forEach((row, n) => {
      const label = this.labels[n];
      row.classList.toggle("here", label !== 0 && label === here);
      this.buttons.get(row)?.setAttribute("aria-pressed", label === view.outlined);
    });
  }
}
