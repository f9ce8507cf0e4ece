// A table whose headings sort. The function that is returned picks and orders rows anew.
const collator = new Intl.Collator("en-GB", { numeric: true });

const valueOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};

const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);

// Rows of a template are there without being drawn: a long table opens with its first rows.
const rowsOf = (body) => {
  const kept = Array.from(body.querySelectorAll("template"), (one) => [...one.content.children]);
  return [...body.rows, ...kept.flat()];
};

const makeSortable = (
  table,
  wanted = () => true,
  told = () => {},
  lay = (body, shown) => body.replaceChildren(...shown),
) => {
  const body = table.tBodies[0];
  const rows = rowsOf(body);
  const heads = Array.from(table.tHead.rows[0].cells);

  const show = () => {
    const column = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    const sign = heads[column].getAttribute("aria-sort") === "ascending" ? 1 : -1;
    const shown = rows.filter(wanted).map((row) => [valueOf(row, column), row]);
    shown.sort(([a], [b]) => {
      // Unknown numbers stay last in both directions.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * compare(a, b);
    });
    lay(body, shown.map(([, row]) => row));
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
