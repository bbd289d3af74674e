// Runs before the page is drawn, so that a chosen theme does not flash.
(function () {
  try {
    var chosen = localStorage.getItem("leadline-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (error) { /* storage may be forbidden; the system's preference holds */ }
  document.documentElement.classList.add("js");
})();
