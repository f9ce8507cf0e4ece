document.documentElement.classList.add("scripted");
new PagedList(document.getElementById("scans"), "", "scans");
