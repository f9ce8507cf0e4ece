const people = new PagedList(document.getElementById("people"), "people-", "participants");
new AgePoints(document.getElementById("people-age-points"), people);
