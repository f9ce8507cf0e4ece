// A long list: sorted, searched, and laid out page by page, however many rows there are.
class PagedList {
  constructor(table, prefix, what) {
    const part = (name) => document.getElementById(`${prefix}${name}`);
    this.table = table;
    this.turning = part("pages");
    [this.back, this.forth] = this.turning.querySelectorAll("button");
    this.place = this.turning.querySelector("output");
    this.pageRows = Number(table.dataset.pageRows);
    [this.chosen, this.page, this.looked] = [[], 0, []];
    this.rows = rowsOf(table.tBodies[0]);
    // Text is gathered once: rows do not change.
    this.texts = new Map();
    this.back.addEventListener("click", () => this.turnTo(this.page - 1));
    this.forth.addEventListener("click", () => this.turnTo(this.page + 1));
    const count = part("count");
    this.search = part("search");
    this.show = makeSortable(
      table,
      (row) => this.looked.every((word) => this.textOf(row).includes(word)),
      (shown, all) => { count.textContent = `${shown} of ${all} ${what}`; },
      (_, rows) => { this.chosen = rows; this.turnTo(0); },
    );
    this.search.addEventListener("input", () => this.look());
  }

  look() {
    this.looked = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.show();
  }

  // Goes to a row, wherever it stands; a search that hides it ends.
  leadTo(row) {
    if (!this.chosen.includes(row)) {
      this.search.value = "";
      this.look();
    }
    this.turnTo(Math.floor(this.chosen.indexOf(row) / this.pageRows));
    this.rows.forEach((one) => one.classList.toggle("led-to", one === row));
    row.scrollIntoView({ block: "center" });
    const aim = row.querySelector("a") ?? row;
    if (aim === row) row.tabIndex = -1;
    aim.focus({ preventScroll: true });
  }

  textOf(row) {
    if (!this.texts.has(row)) this.texts.set(row, row.textContent.toLowerCase());
    return this.texts.get(row);
  }

  turnTo(number) {
    const last = Math.max(0, Math.ceil(this.chosen.length / this.pageRows) - 1);
    this.page = Math.min(Math.max(number, 0), last);
    const first = this.page * this.pageRows;
    const shown = this.chosen.slice(first, first + this.pageRows);
    this.table.tBodies[0].replaceChildren(...shown);
    this.place.textContent = `${shown.length ? first + 1 : 0} to ${first + shown.length}`;
    this.back.disabled = this.page === 0;
    this.forth.disabled = this.page === last;
    this.turning.hidden = last === 0;
  }
}
