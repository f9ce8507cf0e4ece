"use strict";
(() => {
  document.documentElement.classList.add("scripted");
  const table = document.getElementById("regions");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const choice = document.getElementById("expert");
  const count = document.getElementById("count");

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };

  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en-GB", { numeric: true });
    return a - b;
  };

  const show = () => {
    const column = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    const sign = heads[column].getAttribute("aria-sort") === "ascending" ? 1 : -1;
    const shown = rows.filter((row) => !choice.value || row.cells[0].textContent === choice.value);
    shown.sort((x, y) => {
      const [a, b] = [valueOf(x, column), valueOf(y, column)];
      // Unknown numbers stay last in both directions.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * compare(a, b);
    });
    body.replaceChildren(...shown);
    count.textContent = `${shown.length} of ${rows.length} rows`;
  };

  heads.forEach((head) => {
    head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // Numbers start with the largest, names with A.
      const first = head.classList.contains("n") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", before === first ? other : first);
      show();
    });
  });
  choice.addEventListener("change", show);
  show();
})();
