// The chart of ages: each point is that of a row of a list, which hands and keys lead to.
class AgePoints {
  constructor(frame, list) {
    [this.frame, this.list, this.chosen] = [frame, list, null];
    [this.ring, this.told] = [frame.querySelector(".ring"), frame.querySelector("output")];
    this.heads = Array.from(list.table.tHead.rows[0].cells, (head) => head.textContent.trim());
    const points = list.rows.map((row) => {
      const [x, y] = row.dataset.at.split(" ").map(Number);
      return { row, x, y };
    });
    // Along either axis, points that share a place there follow each other along the other.
    this.across = [...points].sort((a, b) => a.x - b.x || b.y - a.y);
    this.up = [...points].sort((a, b) => b.y - a.y || a.x - b.x);
    this.area = frame.querySelector(".points");
    this.area.tabIndex = 0;
    this.area.setAttribute("role", "application");
    this.area.setAttribute("aria-label", this.area.querySelector("img").alt);
    this.area.addEventListener("pointermove", (event) => this.choose(this.near(event)));
    this.area.addEventListener("pointerleave", () => this.choose(null));
    this.area.addEventListener("click", (event) => {
      this.choose(this.near(event));
      this.lead();
    });
    this.area.addEventListener("keydown", (event) => this.press(event));
  }

  // The nearest point that a finger may mean, or none.
  near(event) {
    const box = this.area.getBoundingClientRect();
    let [found, least] = [null, 16];
    this.across.forEach((point) => {
      const distance = Math.hypot(
        box.left + point.x * box.width - event.clientX,
        box.top + point.y * box.height - event.clientY,
      );
      if (distance <= least) [found, least] = [point, distance];
    });
    return found;
  }

  press(event) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.lead();
      return;
    }
    if (event.key === "Escape") {
      this.choose(null);
      return;
    }
    const along = event.key === "ArrowUp" || event.key === "ArrowDown" ? this.up : this.across;
    const last = along.length - 1;
    const here = along.indexOf(this.chosen);
    const next = {
      ArrowRight: here + 1,
      ArrowUp: here + 1,
      ArrowLeft: here < 0 ? last : here - 1,
      ArrowDown: here < 0 ? last : here - 1,
      Home: 0,
      End: last,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.choose(along[Math.min(Math.max(next, 0), last)]);
  }

  choose(point) {
    if (point === this.chosen) return;
    this.chosen = point;
    this.ring.hidden = point === null;
    this.told.textContent = point ? this.say(point.row) : "";
    if (!point) return;
    this.ring.style.left = `${100 * point.x}%`;
    this.ring.style.top = `${100 * point.y}%`;
  }

  // What the row holds, under its headings.
  say(row) {
    return this.heads
      .map((head, column) => {
        const cell = row.cells[column];
        const parts = Array.from(cell.children, (part) => part.textContent);
        return [head, parts.length > 1 ? parts.join(", ") : cell.textContent.trim()];
      })
      .filter(([, text]) => text)
      .map(([head, text]) => `${head}: ${text}`)
      .join("; ");
  }

  lead() {
    if (this.chosen) this.list.leadTo(this.chosen.row);
  }
}
