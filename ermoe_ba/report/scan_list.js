// A list of scans: sorted, searched, and laid out page by page, however many there are.
document.documentElement.classList.add("scripted");
const table = document.getElementById("scans");
const search = document.getElementById("search");
const count = document.getElementById("count");
const turning = document.getElementById("pages");
const [back, forth] = turning.querySelectorAll("button");
const place = turning.querySelector("output");
const pageRows = Number(table.dataset.pageRows);

let chosen = [];
let page = 0;

const turnTo = (number) => {
  const last = Math.max(0, Math.ceil(chosen.length / pageRows) - 1);
  page = Math.min(Math.max(number, 0), last);
  const first = page * pageRows;
  const shown = chosen.slice(first, first + pageRows);
  table.tBodies[0].replaceChildren(...shown);
  place.textContent = `${shown.length ? first + 1 : 0} to ${first + shown.length}`;
  back.disabled = page === 0;
  forth.disabled = page === last;
  turning.hidden = last === 0;
};

back.addEventListener("click", () => turnTo(page - 1));
forth.addEventListener("click", () => turnTo(page + 1));

// Text is gathered once: rows do not change.
const texts = new Map();
const textOf = (row) => {
  if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
  return texts.get(row);
};
const words = () => search.value.toLowerCase().split(/\s+/).filter(Boolean);

let looked = [];
const showScans = makeSortable(
  table,
  (row) => looked.every((word) => textOf(row).includes(word)),
  (shown, all) => { count.textContent = `${shown} of ${all} scans`; },
  (_, rows) => { chosen = rows; turnTo(0); },
);
search.addEventListener("input", () => { looked = words(); showScans(); });
