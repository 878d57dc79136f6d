// Before anything is drawn: scripts are on, and the theme that was chosen last time.
document.documentElement.classList.add("js");
try {
  const chosen = localStorage.getItem("fewbit-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage may be forbidden: then the system's theme it is
}
