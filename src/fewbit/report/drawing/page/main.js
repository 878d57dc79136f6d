// Start: Graphviz, the panes, the buttons, the theme.
const panes = document.getElementById("panes"), status = document.getElementById("status");
let viz;

for (const stage of stages.values()) stage.rank = new Map(stage.items.map(([id], i) => [id, i]));

// Show the stages that are wanted, each laid out anew.
function arrange() {
  panes.replaceChildren(...shownStages().map((s) => s.box ?? pane(s)));
  panes.dataset.count = shownStages().length;
  for (const button of document.querySelectorAll("[data-stage]"))
    button.setAttribute("aria-pressed", String(stages.get(button.dataset.stage).visible));
  layAll();
  fit();
}

function layAll(first, hold) {
  const began = performance.now();
  for (const stage of shownStages()) lay(stage, stage === first ? hold : partnerOf(first, hold, stage));
  const boxes = shownStages().reduce((sum, s) => sum + s.drawn, 0), ms = Math.round(performance.now() - began);
  status.textContent = `${boxes} boxes, laid out in ${ms} ms`;
  light();
}

// What in another stage should stay where it is, when a group opens in this one.
function partnerOf(first, hold, stage) {
  const key = first && hold && thing(first, hold)?.key;
  return key ? (byKey.get(key) ?? []).find(([n]) => n === stage.name)?.[1] : undefined;
}

function openAll(wanted) {
  for (const stage of stages.values()) stage.opened = new Set(wanted ? Object.keys(stage.groups) : []);
  status.textContent = "laying out …";
  setTimeout(() => layAll(...(chosen ? [stages.get(chosen[0]), chosen[1]] : [])));
}

const doing = {
  open: () => openAll(true),
  fold: () => openAll(false),
  in: () => shownStages().forEach((s) => zoomTo(s, s.zoom * STEP)),
  out: () => shownStages().forEach((s) => zoomTo(s, s.zoom / STEP)),
  fit: () => fit(true),
};
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => doing[button.dataset.do]());

for (const button of document.querySelectorAll("[data-stage]"))
  button.addEventListener("click", () => {
    const stage = stages.get(button.dataset.stage);
    if (stage.visible && shownStages().length === 1) return; // one always stays
    stage.visible = !stage.visible;
    arrange();
  });

const themes = document.querySelectorAll("[data-theme-choice]");
function theme(wanted) {
  if (wanted === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = wanted;
  for (const b of themes) b.setAttribute("aria-pressed", String(b.dataset.themeChoice === wanted));
}
for (const b of themes)
  b.addEventListener("click", () => {
    theme(b.dataset.themeChoice);
    try {
      localStorage.setItem("fewbit-theme", b.dataset.themeChoice);
    } catch {
      // storage may be forbidden: the choice holds for now
    }
  });
theme(document.documentElement.dataset.theme ?? "auto");

addEventListener("hashchange", fromHash);
addEventListener("keydown", (e) => {
  if (e.key === "/" && !e.target.closest("input")) {
    e.preventDefault();
    field.focus();
  } else if (e.key === "Escape" && !panel.hidden && !e.target.closest("g")) clear();
});

Viz.instance().then((made) => {
  viz = made;
  if (innerWidth < 760) for (const s of shownStages().slice(0, -1)) s.visible = false; // a phone has room for one
  arrange();
  fromHash();
  document.documentElement.dataset.ready = "yes";
});
