document.documentElement.classList.add("scripted");
const scans = new PagedList(document.getElementById("scans"), "", "scans");
const ages = document.getElementById("age-points");
if (ages) new AgePoints(ages, scans);
