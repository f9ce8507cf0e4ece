document.documentElement.classList.add("scripted");
const search = document.getElementById("search");
const count = document.getElementById("count");
const words = () => search.value.toLowerCase().split(/\s+/).filter(Boolean);
const showScans = makeSortable(
  document.getElementById("scans"),
  (row) => words().every((word) => row.textContent.toLowerCase().includes(word)),
  (shown, all) => { count.textContent = `${shown} of ${all} scans`; },
);
search.addEventListener("input", showScans);
