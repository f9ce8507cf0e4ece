document.documentElement.classList.add("scripted");
const regions = new RegionTable(document.getElementById("regions"));
// A browser older than 2023 cannot unpack the volumes; the still slices show the same maps.
startViewer(regions).catch((error) => {
  document.getElementById("no-viewer").hidden = false;
  document.getElementById("why-not").textContent = ` (${error.message})`;
});
