// The page as a whole: theme, contents, copy, save all, print.

const themeButtons = [...document.querySelectorAll("[data-theme-choice]")];

function themed() {
  const now = document.documentElement.dataset.theme ?? "auto";
  for (const button of themeButtons) button.setAttribute("aria-pressed", String(button.dataset.themeChoice === now));
}

for (const button of themeButtons) {
  button.addEventListener("click", () => {
    const to = button.dataset.themeChoice;
    if (to === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = to;
    try {
      localStorage.setItem("fewbit-theme", to);
    } catch {
      // storage may be forbidden: then the choice holds as long as the page
    }
    themed();
  });
}
document.querySelector(".theme").hidden = false;
themed();

const copy = $("copy");
if (copy) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    let done = true;
    try {
      await navigator.clipboard.writeText($("command").textContent);
    } catch {
      getSelection().selectAllChildren($("command"));
      done = document.execCommand("copy");
    }
    copy.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
}

$("save-all").append(
  element("button", { type: "button", click: () => download(`${stem()}.json`, "application/json", json(facts)) }, "Save all data (JSON)"),
  element("button", { type: "button", click: () => download(`${stem()}-layers.csv`, "text/csv", csv(layers.map(flat))) }, "Save the layers (CSV)"),
  element("button", { type: "button", click: () => print() }, "Print"),
);

// the contents tell where the reader is: the last heading above the upper third of the window
const contents = [...document.querySelectorAll(".contents a")];
const parts = contents.map((link) => $(link.getAttribute("href").slice(1)));
let waiting = false;
function whereabouts() {
  waiting = false;
  const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 4;
  const at = end ? parts.length - 1 : Math.max(0, parts.findLastIndex((part) => part && part.getBoundingClientRect().top < innerHeight / 3));
  contents.forEach((link, i) => (i === at ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
}
addEventListener("scroll", () => waiting || ((waiting = true), requestAnimationFrame(whereabouts)), { passive: true });
whereabouts();

// on paper everything is laid open
addEventListener("beforeprint", () => {
  document.querySelectorAll("main details").forEach((box) => box.closest(".chart") || (box.open = true));
  for (const figure of figures.values()) figure.ensure();
});

document.documentElement.dataset.ready = String(Math.round(performance.now()));
