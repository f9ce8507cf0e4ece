// A table whose headings sort. `shown` picks and orders rows anew whenever it is called.
const valueOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};

const compareCells = (a, b) => {
  if (typeof a === "string") return a.localeCompare(b, "en-GB", { numeric: true });
  return a - b;
};

const makeSortable = (table, wanted = () => true, told = () => {}) => {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);

  const show = () => {
    const column = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    const sign = heads[column].getAttribute("aria-sort") === "ascending" ? 1 : -1;
    const shown = rows.filter(wanted);
    shown.sort((x, y) => {
      const [a, b] = [valueOf(x, column), valueOf(y, column)];
      // Unknown numbers stay last in both directions.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * compareCells(a, b);
    });
    body.replaceChildren(...shown);
    told(shown.length, rows.length);
  };

  heads.forEach((head) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // Numbers start with the largest, names with A.
      const first = head.classList.contains("n") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", before === first ? other : first);
      show();
    });
  });
  show();
  return show;
};
