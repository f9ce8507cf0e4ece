new PagedList(document.getElementById("people"), "people-", "participants");
